export { type AffineOptions, type AffineParts, affine, type Zeros } from './affine.ts'
export { type AqlmOptions, type AqlmParts, aqlm } from './aqlm.ts'
export { type AwqOptions, type AwqParts, awq } from './awq.ts'
export { bf16 } from './bf16.ts'
export { type BinaryOptions, type BinaryParts, binary } from './binary.ts'
export { type Mixed, type MixedOptions, mixed } from './choose/mixed.ts'
export { mostSensitive, type Sensitivity, type SensitivityOptions, sensitivity } from './choose/sensitivity.ts'
export { compeftAdapter, compeftFolder, isCompeft } from './compeft/adapter.ts'
export {
  type Compeft,
  fromCompeft,
  type ReadOptions,
  readCompeft,
  type ToCompeftOptions,
  toCompeft,
} from './compeft/file.ts'
export { ALPHAS, KEEPS, type SweepOptions, type SweepRow, sweepCompeft } from './compeft/sweep.ts'
export {
  type Magnitude,
  type TernaryVector,
  type TernaryVectorOptions,
  ternaryDot,
  ternaryEntropy,
} from './compeft/ternary.ts'
export { type CompeftOptions, type CompeftParts, compeft } from './compeft.ts'
export { type Dynamic8Options, type Dynamic8Parts, dynamic8 } from './dynamic8.ts'
export { f16 } from './f16.ts'
export { fromPacked, packedWriter } from './formats/all.ts'
export { fromAwq, toAwq } from './formats/awq.ts'
export {
  type BnbDtype,
  type BnbOptions,
  bnbWriter,
  fromBnb,
  quantizationConfig,
  toBnb,
} from './formats/bnb.ts'
export { codecs } from './formats/codecs.ts'
export type {
  Names,
  PackedFormat,
  PackedWriter,
  Part,
  WeightsToWrite,
  WeightToWrite,
} from './formats/format.ts'
export { fromGptq, type GptqFormatOptions, gptqWriter } from './formats/gptq.ts'
export { fromHqq, toHqq } from './formats/hqq.ts'
export { type PackingOptions, packing } from './formats/packing.ts'
export { type MatrixInFile, type Streaming, type StreamingOptions, streaming } from './formats/streaming.ts'
export { type Fp4Options, fp4 } from './fp4.ts'
export { type Fp8Options, type Fp8Parts, fp8 } from './fp8.ts'
export { type GgufAdapterOptions, ggufAdapter, type LoraModule } from './gguf/adapter.ts'
export { type GgufAdapterFolderOptions, ggufAdapterFolder } from './gguf/adapter-in.ts'
export { blocks as ggufBlocks, loadGgufTypes, writable as ggufWritable } from './gguf/blocks/index.ts'
export type { GgufField, GgufMetadata, GgufScalar, GgufScalarType } from './gguf/field.ts'
export { type GgufFolderOptions, ggufFolder } from './gguf/folder.ts'
export type { GgufGiven } from './gguf/held.ts'
export { type GgufImportance, ggufImportance, readImatrix } from './gguf/imatrix.ts'
export { type GgufMix, ggufMix, ggufMixes } from './gguf/mix.ts'
export {
  checkpointSources,
  type GgufModelOptions,
  ggufModel,
  ggufPacked,
  saveGguf,
  tokenizerFiles,
} from './gguf/model.ts'
export { type PeftModules, peftModules } from './gguf/peft-modules.ts'
export { type Gguf, type GgufTensor, openGguf } from './gguf/reader.ts'
export type { Block as GgufBlock, GgmlType, Importance } from './gguf/types.ts'
export type { TokenizerFiles } from './gguf/vocabulary-out.ts'
export { type GgufFile, type GgufSource, writeGguf } from './gguf/writer.ts'
export { type GgufOptions, type GgufParts, gguf } from './gguf.ts'
export { type GptqOptions, type GptqParts, gptq, type Ordered } from './gptq.ts'
export { fromHalf } from './half.ts'
export { type HqqOptions, type HqqParts, hqq } from './hqq.ts'
export { type Int2Options, int2 } from './int2.ts'
export { type Int3Options, int3 } from './int3.ts'
export { type Int4Options, int4 } from './int4.ts'
export { type Int8Options, type Int8Parts, int8 } from './int8.ts'
export type { FourBitOptions, FourBitParts, Nested } from './kernels/four-bit.ts'
export type { HalfParts } from './kernels/half.ts'
export { bitsPerWeight } from './kernels/layout.ts'
export type { KvBits } from './kv/groups.ts'
export { blockChance, type PrfaOptions, prfa } from './kv/prfa.ts'
export { type KvPacked, type KvStaircaseOptions, type KvStep, kvStaircase } from './kv/staircase.ts'
export { type LlmInt8Options, type LlmInt8Parts, llmInt8 } from './llm-int8.ts'
export { type Nf4Options, nf4 } from './nf4.ts'
export { type OutliersOptions, type OutliersParts, outliers } from './outliers.ts'
export { type CodecFor, type QuantizeOptions, quantize, type See, type Which } from './quantize.ts'
export {
  type AwqResult,
  type AwqScaled,
  type AwqScaleOptions,
  awqClipped,
  awqScale,
} from './solve/awq.ts'
export { type State4Options, type State4Parts, state4 } from './state4.ts'
export { type TernaryOptions, type TernaryParts, ternary } from './ternary.ts'
export { type FakeQuantOptions, type FakeQuantState, fakeQuant } from './train/fake-quant.ts'
export { type LsqOptions, type LsqState, lsq } from './train/lsq.ts'
export { type PvOptions, type PvState, pv } from './train/pv.ts'
