export { type AdamOptions, type AdamState, type AdamwOptions, adamw, scaleByAdam } from './adamw.ts'
export type { Revised } from './revised.ts'
export { constant, cosine, linear, type ScheduleOptions, type WsdOptions, wsd } from './schedule.ts'
export { type SgdOptions, sgd } from './sgd.ts'
export { type PackedState, packState, unpackState } from './state.ts'
export { type Step, type StepContext, type TrainOptions, train } from './train.ts'
export {
  addDecayedWeights,
  chain,
  clipByGlobalNorm,
  partition,
  type Schedule,
  scaleByLearningRate,
  stateless,
} from './transform.ts'
