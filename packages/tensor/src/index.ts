export { atOnce, orAtOnce, readsAtOnce } from './at-once.ts'
export { type Backend, isNode } from './backend.ts'
export { best } from './best.ts'
export { cpu } from './cpu.ts'
export { backprop, gradients, isLive, recompute, stopGradient, untaped } from './grad.ts'
export { defineKernel, type KernelDefinition, kernels } from './kernel.ts'
export {
  type AdamResult,
  type AdamSettings,
  adamUpdates,
  addInPlace,
  globalNorm,
  scaleInPlace,
} from './kernels/in-place.ts'
export * from './kernels/index.ts'
export { normalOf } from './normal.ts'
export { numbersNow } from './now.ts'
export * from './ops.ts'
export * from './params.ts'
export { measuredApart, peakBytes } from './peak.ts'
export { type Profile, type ProfileRow, type Profiling, startProfile, type TraceEvent } from './profile.ts'
export { type Replay, replay } from './replay.ts'
export { philox, rng } from './rng.ts'
export { largestOf, sampleOf } from './select.ts'
export { wasm } from './wasm.ts'
export { webgpu } from './webgpu.ts'
