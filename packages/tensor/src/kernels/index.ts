export { type Activation, activate, glu } from './activation.ts'
export { type AttentionOptions, attention } from './attention.ts'
export { type CrossEntropyOptions, crossEntropy } from './cross-entropy.ts'
export {
  type AdamResult,
  type AdamSettings,
  adamUpdates,
  addInPlace,
  globalNorm,
  scaleInPlace,
} from './in-place.ts'
export { addLowRank, linear, linearLowRank } from './linear.ts'
export { addLayerNorm, addRmsNorm, layerNorm, rmsNorm } from './norm.ts'
export { rotary, rotaryHeads } from './rotary.ts'
export { type RowsInto, writeRows } from './write-rows.ts'
