import { backend, scalar, type Tensor, tensor1d } from '@tensorflow/tfjs-core'
import type { InPlace } from '../in-place.ts'
import { dispatch, fold, type Gpu, type Program, plainFloats, total, track } from './program.ts'

const THREADS = 64
/** elements that one dispatch sees at most, so that their numbers fit */
const MOST = 2 ** 30

/** Several tensors, each in its own buffers, side by side in one dispatch. */
interface Side {
  readonly name: string
  /** buffers of each tensor, by the names that `body` uses; those that are written first */
  readonly writes: readonly string[]
  readonly reads: readonly string[]
  /** buffers for all */
  readonly shared: readonly string[]
  /** element i */
  readonly body: string
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
/** `g[i]` of tensor n is `g_n[i]` */
const numbered = (body: string, names: readonly string[], n: number): string =>
  names.reduce((text, name) => text.replaceAll(`${name}[`, `${name}_${n}[`), body)

const program = ({ name, writes, reads, shared, body }: Side, count: number): Program => ({
  name: `${name} of ${count}`,
  writes: range(count).flatMap((n) => writes.map((w) => `${w}_${n}`)),
  reads: [...range(count).flatMap((n) => reads.map((r) => `${r}_${n}`)), ...shared],
  uniforms: Object.fromEntries(range(count).map((n) => [`end_${n}`, 'u32' as const])),
  threads: THREADS,
  body: `
  let at = (group.y * groups.x + group.x) * ${THREADS}u + local;
  ${range(count)
    .map(
      (n) => `if (at < u.end_${n}) {
    let i = at${n ? ` - u.end_${n - 1}` : ''};
    ${numbered(body, [...writes, ...reads], n)}
    return;
  }`,
    )
    .join('\n  ')}`,
})

/** as many tensors in each dispatch as the device binds buffers; tensors by the names of their buffers */
const run = (gpu: Gpu, side: Side, tensors: readonly Readonly<Record<string, Tensor>>[], shared: Tensor[]): void => {
  const { limits } = gpu.device
  const each = side.writes.length + side.reads.length
  const most = Math.max(1, Math.floor((limits.maxStorageBuffersPerShaderStage - side.shared.length) / each))
  for (let from = 0; from < tensors.length; ) {
    const ends: number[] = []
    let end = 0
    while (from + ends.length < tensors.length && ends.length < most) {
      const { size } = tensors[from + ends.length]![side.writes[0]!]!
      if (ends.length && end + size > MOST) break
      end += size
      ends.push(end)
    }
    const some = tensors.slice(from, from + ends.length)
    dispatch(gpu, program(side, ends.length), {
      writes: some.flatMap((t) => side.writes.map((w) => t[w]!)),
      reads: [...some.flatMap((t) => side.reads.map((r) => t[r]!)), ...shared],
      uniforms: ends,
      groups: fold(gpu, Math.ceil(end / THREADS)),
    })
    from += ends.length
  }
}

/** numbers that change from step to step: in a buffer, where a uniform would be a new one each time */
const NUMBERS = ['b1', 'rest1', 'b2', 'rest2', 'grow1', 'grow2', 'eps', 'decay', 'scale'] as const
const number = (name: (typeof NUMBERS)[number]): string => `c[${NUMBERS.indexOf(name)}]`

const moments = (decays: boolean): Side => ({
  name: `adam${decays ? ' with decay' : ''}`,
  writes: ['g', 'm', 'v'],
  reads: decays ? ['p'] : [],
  shared: ['c'],
  body: `
    let mi = ${number('b1')} * m[i] + ${number('rest1')} * g[i];
    let vi = ${number('b2')} * v[i] + ${number('rest2')} * g[i] * g[i];
    m[i] = mi;
    v[i] = vi;
    g[i] = ${number('scale')} * (mi * ${number('grow1')} / (sqrt(vi) * ${number('grow2')} + ${number('eps')})${decays ? ` + ${number('decay')} * p[i]` : ''});`,
})
const factor: Side = { name: 'scale', writes: ['y'], reads: [], shared: ['s'], body: 'y[i] *= s[0];' }
const sum: Side = { name: 'add', writes: ['y'], reads: ['x'], shared: ['s'], body: 'y[i] += s[0] * x[i];' }

const GROUP = 128
const PARTS = 256
/** Σx² of a part of x by each workgroup, into `partial` from u.to on */
const squaresOf: Program = {
  name: 'squares',
  writes: ['partial'],
  reads: ['x'],
  uniforms: { size: 'u32', to: 'u32' },
  threads: GROUP,
  head: total(GROUP),
  body: `
  var s = 0.0;
  for (var i = group.x * ${GROUP}u + local; i < u.size; i += groups.x * ${GROUP}u) { s += x[i] * x[i]; }
  s = total(s, local);
  if (local == 0u) { partial[u.to + group.x] = s; }`,
}
const whole: Program = {
  name: 'squares whole',
  writes: ['y'],
  reads: ['partial'],
  uniforms: { size: 'u32' },
  threads: GROUP,
  head: total(GROUP),
  body: `
  var s = 0.0;
  for (var i = local; i < u.size; i += ${GROUP}u) { s += partial[i]; }
  s = total(s, local);
  if (local == 0u) { y[0] = s; }`,
}

const gpuOf = (): Gpu => backend() as unknown as Gpu
/** what is written is written once and not read: a buffer has one use in a dispatch */
const apart = (writes: readonly Tensor[], reads: readonly (Tensor | undefined)[]): boolean => {
  const written = new Set(writes.map((t) => t.dataId))
  return written.size === writes.length && reads.every((t) => !t || !written.has(t.dataId))
}

export const inPlace: InPlace = {
  adam: (parts, { b1, b2, eps, decay, scale, step }) => {
    const gpu = gpuOf()
    const writes = parts.flatMap(({ g, m, v }) => [g, m, v])
    const reads = parts.map(({ p }) => p)
    if (!plainFloats(gpu, ...writes, ...reads) || !apart(writes, reads)) return false
    const grow = [1 / (1 - b1 ** step), 1 / Math.sqrt(1 - b2 ** step)] as const
    const numbers = tensor1d([b1, 1 - b1, b2, 1 - b2, ...grow, eps, decay, scale]) // as NUMBERS
    const decaying = parts.filter(({ p }) => p) as Record<'g' | 'm' | 'v' | 'p', Tensor>[]
    const others = parts.filter(({ p }) => !p) as unknown as Record<'g' | 'm' | 'v', Tensor>[]
    run(gpu, moments(true), decaying, [numbers])
    run(gpu, moments(false), others, [numbers])
    numbers.dispose()
    return true
  },
  squares: (tensors) => {
    const gpu = gpuOf()
    if (!plainFloats(gpu, ...tensors)) return undefined
    const groups = tensors.map((t) => Math.min(PARTS, Math.ceil(t.size / (8 * GROUP))))
    const count = groups.reduce((n, g) => n + g, 0)
    let partial = gpu.makeTensorInfo([count], 'float32')
    let to = 0
    tensors.forEach((x, i) => {
      ;[partial] = dispatch(gpu, squaresOf, {
        reads: [x],
        writes: [partial],
        uniforms: [x.size, to],
        groups: [groups[i]!],
      }) as [typeof partial]
      to += groups[i]!
    })
    const [y] = dispatch(gpu, whole, { reads: [partial], writes: [[]], uniforms: [count], groups: [1] })
    gpu.disposeData(partial.dataId)
    return track(y!)
  },
  scale: (tensors, s) => {
    const gpu = gpuOf()
    if (!plainFloats(gpu, ...tensors, s) || !apart(tensors, [s])) return false
    const all = tensors.map((y) => ({ y }))
    run(gpu, factor, all, [s])
    return true
  },
  add: (pairs, s) => {
    const gpu = gpuOf()
    const [writes, reads] = [pairs.map(([y]) => y), pairs.map(([, x]) => x)]
    if (!plainFloats(gpu, ...writes, ...reads) || !apart(writes, reads)) return false
    const times = scalar(s)
    const all = pairs.map(([y, x]) => ({ y, x }))
    run(gpu, sum, all, [times])
    times.dispose()
    return true
  },
}
