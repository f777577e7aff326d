import { engine as tfEngine } from '@tensorflow/tfjs-core'

interface Tracking {
  state: { numBytes: number }
  trackTensor(...args: unknown[]): void
}
const peaks = new WeakMap<object, { bytes: number }>()

/** The most bytes that tensors have held at once since `reset`; counting begins with the first call. */
export const peakBytes = (): { readonly bytes: number; reset(): void } => {
  const engine = tfEngine() as unknown as Tracking
  let peak = peaks.get(engine)
  if (!peak) {
    const counted = { bytes: engine.state.numBytes }
    peaks.set(engine, counted)
    peak = counted
    const track = engine.trackTensor.bind(engine)
    engine.trackTensor = (...args) => {
      track(...args)
      if (engine.state.numBytes > counted.bytes) counted.bytes = engine.state.numBytes
    }
  }
  const held = peak
  return {
    get bytes() {
      return held.bytes
    },
    reset: () => {
      held.bytes = engine.state.numBytes
    },
  }
}
