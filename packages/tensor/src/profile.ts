import { backend, type Tensor, engine as tfEngine } from '@tensorflow/tfjs-core'
import { type Engine, engine, observer } from './engine.ts'
import { clock } from './kernels/webgpu/clock.ts'
import { bound } from './kernels/webgpu/lighter.ts'
import type { Gpu } from './kernels/webgpu/program.ts'

/** One kernel under one op. */
export interface ProfileRow {
  /** what was asked for: a fused kernel, its gradient, or an op of tfjs */
  readonly op: string
  /** what ran for it: a shader on WebGPU; elsewhere a kernel, without the kernels that it runs in turn */
  readonly kernel: string
  readonly calls: number
  readonly milliseconds: number
  /** of all kernels' time, 0 to 1 */
  readonly share: number
  /** of the tensors that were read and written */
  readonly bytes: number
}
/** One event in the Trace Event Format: 'X' is a span, 'M' names a track; `ts` and `dur` in µs. */
export interface TraceEvent {
  readonly name: string
  readonly ph: 'X' | 'M'
  readonly pid: number
  readonly tid: number
  readonly ts?: number
  readonly dur?: number
  readonly cat?: string
  readonly args?: Readonly<Record<string, unknown>>
}
export interface Profile {
  readonly backend: string
  /** `device`: the GPU's own timestamps. `wall`: this thread's time, which on a GPU without timestamps is that of recording */
  readonly clock: 'device' | 'wall'
  /** from start to stop */
  readonly milliseconds: number
  /** the device's clock goes in steps of so many ms, where it can be told (browsers make it coarse) */
  readonly resolution?: number
  /** the longest first */
  readonly rows: readonly ProfileRow[]
  /** as JSON, opens in chrome://tracing and Perfetto */
  readonly trace: { readonly displayTimeUnit: 'ms'; readonly traceEvents: readonly TraceEvent[] }
  /** events that the trace has no room for; the rows count them */
  readonly leftOut: number
}
export interface Profiling {
  /** begins a named span of the trace, within those that are open; → its end */
  span(name: string): () => void
  /** takes all hooks off; once more is the same profile */
  stop(): Promise<Profile>
}

const EVENTS = 400_000
const VIEWS = new Set(['Identity', 'Reshape', 'ExpandDims'])
const THREAD = 1
const DEVICE = 2
const DEVICE_SPANS = 3

interface Frame {
  readonly name: string
  readonly began: number
  /** spent in kernels within */
  inner: number
}
interface Span {
  readonly name: string
  readonly began: number
  /** when the device worked for it */
  first: number
  last: number
}

const bytesOf = (tensors: object): number =>
  Object.values(tensors)
    .flat()
    .reduce((n: number, t: Partial<Tensor> | undefined) => n + (t?.size ?? 0) * (t?.dtype === 'bool' ? 1 : 4), 0)

/** ms → µs, to the ns */
const micro = (ms: number): number => Math.round(ms * 1e6) / 1e3
const gcd = (a: number, b: number): number => (b ? gcd(b, a % b) : a)

let running = false

/**
 * Times every kernel from now until `stop`, of tfjs and ours: by timestamps around each dispatch where a GPU has them,
 * else by this thread's clock. Timing slows the work a little; when off it costs nothing.
 * @throws Error where one is running
 * @example
 * const profiling = startProfile()
 * await multiply(x, y).data()
 * const { rows } = await profiling.stop()
 */
export const startProfile = (): Profiling => {
  if (running) throw new Error('profile: one is running; stop it first')
  running = true
  const e = tfEngine() as unknown as Engine
  const { backendName } = engine()
  const start = performance.now()
  const now = (): number => performance.now() - start
  const rows = new Map<string, { op: string; kernel: string; calls: number; milliseconds: number; bytes: number }>()
  const events: TraceEvent[] = []
  const frames: Frame[] = []
  const spans: Span[] = [] // open
  const done: Span[] = []
  let leftOut = 0
  const count = (op: string, kernel: string, milliseconds: number, bytes: number): void => {
    const key = `${op}\n${kernel}`
    const row = rows.get(key) ?? { op, kernel, calls: 0, milliseconds: 0, bytes: 0 }
    rows.set(key, row)
    row.calls++
    row.milliseconds += milliseconds
    row.bytes += bytes
  }
  const event = (name: string, tid: number, from: number, to: number, args?: TraceEvent['args']): void => {
    if (events.length >= EVENTS) leftOut++
    else events.push({ name, ph: 'X', pid: 1, tid, ts: micro(from), dur: micro(to - from), ...(args && { args }) })
  }

  const gpu = backend() as unknown as Gpu
  const timed = backendName === 'webgpu' && gpu.device.features.has('timestamp-query')
  // the device's clock begins anywhere: its first work is put where it was recorded
  let shift: number | undefined
  let step = 0 // of the device's clock, in ns
  const device = timed
    ? clock(gpu, (pipeline, group) => {
        const outer = frames[0]?.name ?? 'other'
        const { label } = pipeline
        // tfjs names its pipelines by classes, whose names are lost where code is minified
        const kernel = label.length > 2 ? label.replace(/Program(_\d+)?$/, '') : (frames.at(-1)?.name ?? outer)
        const bytes = (bound.get(group) ?? []).reduce((n, b) => n + b.size, 0)
        const open = [...spans]
        const recorded = now()
        return (begin, end) => {
          shift ??= recorded - begin
          const [from, to] = [begin + shift, end + shift]
          step = gcd(Math.round((end - begin) * 1e6), step)
          for (const s of open) {
            s.first = Math.min(s.first, from)
            s.last = Math.max(s.last, to)
          }
          count(outer, kernel, to - from, bytes)
          event(kernel, DEVICE, from, to, { op: outer, bytes })
        }
      })
    : undefined

  const frame = <T>(name: string, bytes: (result: T) => number, f: () => T): T => {
    const own: Frame = { name, began: now(), inner: 0 }
    frames.push(own)
    let result: T | undefined
    try {
      result = f()
      return result
    } finally {
      frames.pop()
      const end = now()
      const whole = end - own.began
      const above = frames.at(-1)
      if (above) above.inner += whole
      if (!timed) count(frames[0]?.name ?? name, name, whole - own.inner, result === undefined ? 0 : bytes(result))
      event(name, THREAD, own.began, end)
    }
  }
  const run = e.runKernelFunc.bind(e)
  const own = Object.getOwnPropertyDescriptor(e, 'runKernelFunc')
  e.runKernelFunc = (call) => {
    const name = call.kernelName ?? call.label
    // what only gives a tensor another shape or name is a part of what asks for it
    if (name === undefined || (VIEWS.has(name) && frames.length)) return run(call)
    const { backwardsFunc: back } = call
    const timedCall =
      call.label === undefined
        ? call
        : {
            ...call,
            backwardsFunc: ((dy, saved, attrs) =>
              frame(
                `${name} gradient`,
                () => bytesOf({ dy, saved }),
                () => back(dy, saved, attrs),
              )) as typeof back,
          }
    return frame(
      name,
      (y) => (VIEWS.has(name) ? 0 : bytesOf({ ...call.inputs, y })),
      () => run(timedCall),
    )
  }
  observer.frame = (name, f) => frame(name, () => 0, f)

  const span = (name: string): (() => void) => {
    const own: Span = { name, began: now(), first: Number.POSITIVE_INFINITY, last: 0 }
    spans.push(own)
    return () => {
      const at = spans.lastIndexOf(own)
      if (at < 0) return
      spans.splice(at, 1)
      event(name, THREAD, own.began, now(), { span: true })
      done.push(own)
    }
  }
  const end = async (): Promise<Profile> => {
    if (own) Object.defineProperty(e, 'runKernelFunc', own)
    else Reflect.deleteProperty(e, 'runKernelFunc')
    delete observer.frame
    running = false
    await device?.stop()
    const milliseconds = now()
    for (const { name, first, last } of done) if (last > first) event(name, DEVICE_SPANS, first, last)
    const total = [...rows.values()].reduce((n, r) => n + r.milliseconds, 0)
    const track = (tid: number, name: string): TraceEvent => ({
      name: 'thread_name',
      ph: 'M',
      pid: 1,
      tid,
      args: { name },
    })
    return {
      backend: backendName,
      clock: timed ? 'device' : 'wall',
      milliseconds,
      ...(step > 0 && { resolution: step / 1e6 }),
      rows: [...rows.values()]
        .map((r) => ({ ...r, share: total ? r.milliseconds / total : 0 }))
        .sort((a, b) => b.milliseconds - a.milliseconds),
      trace: {
        displayTimeUnit: 'ms',
        traceEvents: [
          track(THREAD, 'JavaScript'),
          ...(timed ? [track(DEVICE, 'GPU'), track(DEVICE_SPANS, 'GPU, spans')] : []),
          ...events,
        ],
      },
      leftOut,
    }
  }
  let stopped: Promise<Profile> | undefined
  return {
    span,
    stop: () => {
      stopped ??= end()
      return stopped
    },
  }
}
