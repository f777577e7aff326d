import { engine as tfEngine } from '@tensorflow/tfjs-core'

interface Info {
  readonly bytes: number
}
interface Tracking {
  readonly state: { readonly numBytes: number; readonly tensorInfo: WeakMap<object, Info> }
  trackTensor(tensor: { readonly dataId: object }, ...rest: unknown[]): void
  removeDataId(id: object, ...rest: unknown[]): void
}
interface Count {
  now: number
  most: number
}
const counts = new WeakMap<object, Count>()

/** tfjs counts a tensor that shares its data with another as if it had its own; here data counts once */
const watch = (engine: Tracking): Count => {
  const { tensorInfo, numBytes } = engine.state
  const count = { now: numBytes, most: numBytes }
  const [track, remove] = [engine.trackTensor.bind(engine), engine.removeDataId.bind(engine)]
  engine.trackTensor = (tensor, ...rest) => {
    const known = tensorInfo.has(tensor.dataId)
    track(tensor, ...rest)
    if (known) return
    count.now += tensorInfo.get(tensor.dataId)!.bytes
    if (count.now > count.most) count.most = count.now
  }
  engine.removeDataId = (id, ...rest) => {
    const bytes = tensorInfo.get(id)?.bytes ?? 0
    remove(id, ...rest)
    if (!tensorInfo.has(id)) count.now -= bytes
  }
  return count
}

/** Runs f, whose peaks nobody sees who has been measuring before. */
export const measuredApart = async <T>(f: () => Promise<T>): Promise<T> => {
  const engine = tfEngine() as unknown as Tracking
  const count = counts.get(engine) ?? watch(engine)
  counts.set(engine, count)
  const before = count.most
  try {
    return await f()
  } finally {
    count.most = Math.max(before, count.now)
  }
}

/** The most bytes that the data of tensors has held at once since `reset`; counting begins with the first call. */
export const peakBytes = (): { readonly bytes: number; readonly now: number; reset(): void } => {
  const engine = tfEngine() as unknown as Tracking
  const count = counts.get(engine) ?? watch(engine)
  counts.set(engine, count)
  return {
    get bytes() {
      return count.most
    },
    /** at present */
    get now() {
      return count.now
    },
    reset: () => {
      count.most = count.now
    },
  }
}
