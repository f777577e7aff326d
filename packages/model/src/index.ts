export { agreement } from './agreement.ts'
export { type Architecture, architectureOf, architectures, type Name, namesOf } from './architectures/index.ts'
export { attach, type FoldOptions, type ForwardOptions, type Pass, type Tuned, tunedOf } from './attach.ts'
export { type AttachAsyncOptions, attachAsync } from './attach-async.ts'
export {
  type Attachment,
  type AttachOptions,
  type Binding,
  type Bound,
  bind,
  contextOf,
  initContextOf,
  sharedOf,
  stateOf,
} from './bind.ts'
export { type KvCache, type KvFormat, type KvStore, kvCache } from './cache.ts'
export { type CalibrateOptions, calibrate } from './calibrate.ts'
export type { CalibrationCache } from './calibration-file.ts'
export type { Experts, Rope, TransformerConfig } from './config.ts'
export { decoder, type StopScan, stopScan, type TextStream } from './decoder.ts'
export { type Divergence, divergenceFrom } from './divergence.ts'
export { type EstimateMemoryOptions, estimateMemory, type MemoryEstimate } from './estimate-memory.ts'
export { foldChecked } from './fold-checked.ts'
export { type Completion, complete, type Finish, type Generated, type GenerateOptions, generate } from './generate.ts'
export { initNetwork } from './init.ts'
export { type LabelHeadOptions, labelFirstTokens, labelHead, labelLoss } from './labels.ts'
export { type LoadOptions, loadNetwork, type WeightReader } from './load.ts'
export { inputsOf, meanLoss, nextToken, targetsIn } from './loss.ts'
export { type AddOptions, addAdapters, deleteAdapters, renameAdapters } from './manage.ts'
export { type At, match, matcher } from './match.ts'
export { type Place, placeOf } from './places.ts'
export type { Prompts } from './prompt.ts'
export { type PrototypeHead, type PrototypeOptions, type PrototypeState, prototypeHead } from './prototypes.ts'
export {
  type MatrixInFile,
  type Repacked,
  type Repacking,
  type RepackOptions,
  repacked,
  repackNetwork,
  type WeightToCome,
} from './repack.ts'
export { type LayerRange, replicateLayers } from './replicate.ts'
export { resizeVocabulary, type Tables } from './resize.ts'
export { type RevisedParams, type Revising, type RevisingOptions, revising } from './revise.ts'
export { type SamplingOptions, sample } from './sampling.ts'
export {
  checkpointOf,
  type PackedWriter,
  type SaveDtype,
  type SaveOptions,
  saveNetwork,
  type WeightToWrite,
} from './save.ts'
export { type Score, type ScoreOptions, score } from './score.ts'
export { type SeeingOptions, type Sight, seeing } from './see.ts'
export { type Calibrated, disposeSeen } from './seen.ts'
export { sitesOf } from './sites.ts'
export { type AdapterStatus, type Counts, countsOf, type SiteStatus, statusOf } from './status.ts'
export { checkTokenizer, encodeChat, loadTokenizer, type ModelTokenizer } from './tokenizer.ts'
export { realOrMade, type Transferred, type TransLoraOptions, type TransLoraParts, transLora } from './trans-lora.ts'
export { type Cache, type Hooks, type Inputs, transformer } from './transformer.ts'
export { type UpcycleOptions, upcycle } from './upcycle.ts'
export { coServe, type Load, type WindowedOptions, windowed } from './windowed.ts'
