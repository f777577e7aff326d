/**
 * Parameter-efficient tuning: train a few numbers beside a frozen network, read and write PEFT's files.
 * @packageDocumentation
 */

// methods, written by `npm run generate`
export { type LoraOptions, type LoraState, lora } from './lora.ts'
// end of methods
export { type Combination, type CombineOptions, combinations, combine } from './operations/combine.ts'
export { compress, compressDense, rankFor, type Size } from './operations/compress.ts'
export {
  type Chosen,
  type Delta,
  deltasOf,
  type ReadyLora,
  readyLora,
  type Standing,
  stacked,
} from './operations/factors.ts'
export { type HotSwapOptions, hotSwap } from './operations/hot-swap.ts'
export {
  type Extracted,
  type ExtractOptions,
  extractLora,
  type ToLoraOptions,
  toLora,
} from './operations/to-lora.ts'
export { type Formats, formatOf, type PeftConfig, peftConfig, readPeftConfig } from './peft/config.ts'
export type { Field, Held, Layout, Part, PeftFormat } from './peft/format.ts'
export { formats } from './peft/formats/index.ts'
export {
  type Attached,
  type FromPeft,
  fromPeft,
  type Loaded,
  loadPeft,
  type PeftTensor,
  peftTensors,
} from './peft/load.ts'
export { type Make, nativeMethod } from './peft/native.ts'
export { peftConfigOf, type SavePeftOptions, savePeft, toPeft } from './peft/save.ts'
export { type PeftTargets, peftTargets, peftTrained } from './peft/target.ts'
