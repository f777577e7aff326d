export { type AdamOptions, type AdamState, type AdamwOptions, adamw, scaleByAdam } from './adamw.ts'
export { type ApetTensorsOptions, apetTensors, drawUnits } from './choose/apet-tensors.ts'
export {
  backwardShare,
  type GreenTrainerOptions,
  greenTrainer,
  importanceOf,
  selectTensors,
  type TensorCost,
  tensorCosts,
} from './choose/green-trainer.ts'
export { type HftOptions, halfReset, hft } from './choose/hft.ts'
export { similarityOf, type TellyOptions, telly, tellyK, tokenMean } from './choose/telly.ts'
export { type Ist, type IstOptions, type IstState, ist } from './estimate/ist.ts'
export { type LoraFaOptions, loraFa } from './lora-fa.ts'
export { type LoraPlusOptions, loraPlus } from './lora-plus.ts'
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
export { apart } from './wrap/apart.ts'
export { masked } from './wrap/masked.ts'
export { type PackedStateOptions, packedState, type StateCodec } from './wrap/packed-state.ts'
