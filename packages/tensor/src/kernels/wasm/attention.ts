import type { Tensor } from '@tensorflow/tfjs-core'
import { addressOf, output, type Routines, routines } from '../../heap.ts'
import type { Faster } from '../../kernel.ts'
import * as module from '../../wasm/attention.generated.ts'
import { type Gemm, gemmOf } from '../../wasm/batch-matmul.ts'
import type { WasmBackend } from '../../wasm/heap.ts'
import type { Attrs, Inputs } from '../attention.ts'

/** query rows and keys of a tile: two of them stay in a level-2 cache */
const ROWS = 128
const KEYS = 512
/** Fewer queries than this go row by row: a product of matrices has too little to share. */
const FEW = 5
/** beyond any place in a text, and sums of a few of it still are whole numbers of 32 bits */
const FAR = 2 ** 29

type Addresses = [number, number, number, number, number]

interface Tile {
  /** its first query, counted through all heads and texts; its queries */
  readonly row: number
  readonly rows: number
  /** its first key, counted through all key-value heads with their room; its keys */
  readonly key: number
  readonly n: number
  /** query i sees its keys [first + i, last + i) */
  readonly first: number
  readonly last: number
  /** address of the bias of its first query and key; 0 where there is none */
  readonly bias: number
  /** the first and the last tile of these queries? */
  readonly fresh: boolean
  readonly done: boolean
}

interface Sizes {
  readonly B: number
  readonly H: number
  readonly G: number
  readonly T: number
  readonly K: number
  /** width of queries and keys, of values */
  readonly S: number
  readonly V: number
  /** keys that k and v have room for, K of them there */
  readonly room: number
}

/** how far a step in each of [B, H, T] goes in the bias, in bytes */
const stepsOf = (bias: Tensor | undefined): [number, number, number] => {
  if (!bias) return [0, 0, 0]
  const shape = [...new Array<number>(4 - bias.rank).fill(1), ...bias.shape]
  return shape.slice(0, 3).map((n, i) => (n === 1 ? 0 : 4 * shape.slice(i + 1).reduce((p, d) => p * d, 1))) as never
}

/** does it broadcast to these? */
const fits = (shape: readonly number[], sizes: readonly number[]): boolean =>
  shape.every((n, i) => n === 1 || n === sizes[sizes.length - shape.length + i])

/** sizes of a call that is done here: every query sees a key, or the reference's even weights over hidden keys are wanted */
const sizesOf = ({ q, k, v, bias }: Inputs, { causal, window, keys }: Attrs): Sizes | undefined => {
  const [B, H, T, S] = q.shape as [number, number, number, number]
  const [, G, room, V] = v.shape as [number, number, number, number]
  const K = keys ?? room
  const floats = [q, k, v, bias].every((t) => !t || (t.dtype === 'float32' && t.size > 0))
  const biased = !bias || (bias.rank > 0 && bias.rank <= 4 && bias.shape.at(-1) === K && fits(bias.shape, [B, H, T, K]))
  const seen = (K >= T || (!causal && window === undefined)) && (window === undefined || window > 0)
  return floats && biased && seen && K > 0 ? { B, H, G, T, K, S, V, room } : undefined
}

/** query t sees keys from `back` before its own place, t + K − T, to those below `ahead` */
const reach = ({ causal, window = FAR }: Attrs): { back: number; ahead: number } => ({
  back: Math.min(window, FAR) - 1,
  ahead: causal ? 1 : Math.min(window, FAR),
})

/** the tiles that causality and the window leave, queries first */
const tiles = (
  { B, H, G, T, K, room }: Sizes,
  attrs: Attrs,
  bias: Tensor | undefined,
  visit: (tile: Tile) => void,
): void => {
  const steps = stepsOf(bias)
  const at = bias ? addressOf(bias) : 0
  const { back, ahead } = reach(attrs)
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++)
      for (let t = 0; t < T; t += ROWS) {
        const here = Math.min(ROWS, T - t)
        const from = Math.max(0, t + K - T - back)
        const to = Math.min(K, t + here - 1 + K - T + ahead)
        for (let j = from; j < to; j += KEYS) {
          const first = t + K - T - back - j
          const last = t + K - T + ahead - j
          const n = Math.min(KEYS, to - j)
          const row = (b * H + h) * T + t
          const key = (b * G + Math.floor((h * G) / H)) * room + j
          const place = bias ? at + b * steps[0] + h * steps[1] + t * steps[2] + 4 * j : 0
          visit({ row, rows: here, key, n, first, last, bias: place, fresh: j === from, done: j + n === to })
        }
      }
}

/** `rows` queries that share their keys at a time: of all heads of a group at one place, or of one head */
const byRows = (
  { B, H, G, T, K, room }: Sizes,
  attrs: Attrs,
  { bias }: Inputs,
  rows: number,
  visit: (row: number, key: number, first: number, last: number, bias: number, biasStep: number) => void,
): void => {
  const steps = stepsOf(bias)
  const at = bias ? addressOf(bias) : 0
  const { back, ahead } = reach(attrs)
  for (let row = 0; row < B * H * T; row += rows) {
    const b = Math.floor(row / (H * T))
    const h = Math.floor(row / T) % H
    const key = (b * G + Math.floor((h * G) / H)) * room
    const place = bias ? at + b * steps[0] + h * steps[1] : 0
    visit(row, key, K - T - back, K - T + ahead, place, steps[T === 1 ? 1 : 2])
  }
}

const scratches = new WeakMap<object, number>()
/** room for two tiles, made once */
const scratchOf = (backend: WasmBackend): number => {
  const at = scratches.get(backend) ?? backend.wasm._malloc(2 * 4 * ROWS * KEYS) >>> 0
  scratches.set(backend, at)
  return at
}

const toolsOf = (backend: WasmBackend): { gemm: Gemm; run: Routines; scratch: number } | undefined => {
  const [gemm, run, scratch] = [gemmOf(backend), routines(module), scratchOf(backend)]
  return gemm && run && scratch ? { gemm, run, scratch } : undefined
}

/**
 * Tiles of scores with a running maximum and sum, so that no more than a tile exists  —  Dao, arXiv:2307.08691.
 * Keeps both numbers of each query in `sums` [B, H, T, 2].
 */
const forward = (inputs: Inputs, attrs: Attrs, backend: WasmBackend): { y: Tensor; sums: Tensor } | undefined => {
  const sizes = sizesOf(inputs, attrs)
  const tools = sizes && toolsOf(backend)
  if (!sizes || !tools) return undefined
  const { gemm, run, scratch } = tools
  const { B, H, G, T, K, S, V } = sizes
  const { scale, softcap: cap = 0 } = attrs
  const step = stepsOf(inputs.bias)[2]
  const [y, sums] = [output([B, H, T, V]), output([B, H, T, 2])]
  const [aq, ak, av, ay, as] = [inputs.q, inputs.k, inputs.v, y, sums].map(addressOf) as Addresses
  const rows = T === 1 ? H / G : T
  if (T < FEW && rows * K <= 2 * ROWS * KEYS) {
    byRows(sizes, attrs, inputs, rows, (row, key, first, last, bias, biasStep) => {
      const [q, k, v] = [aq + 4 * row * S, ak + 4 * key * S, av + 4 * key * V]
      const [to, stats] = [ay + 4 * row * V, as + 8 * row]
      const slide = T === 1 ? 0 : 1
      run['attend']!(q, k, v, to, stats, scratch, rows, K, S, V, first, last, slide, scale, cap, bias, biasStep)
    })
    return { y, sums }
  }
  tiles(sizes, attrs, inputs.bias, ({ row, rows, key, n, first, last, bias, fresh, done }) => {
    const [q, k, v] = [aq + 4 * row * S, ak + 4 * key * S, av + 4 * key * V]
    const [to, stats] = [ay + 4 * row * V, as + 8 * row]
    gemm({ m: rows, n, k: S, transposeA: false, transposeB: true, a: q, b: k, c: scratch })
    run['softmax']!(scratch, rows, n, first, last, stats, to, V, fresh ? 1 : 0, scale, cap, bias, step)
    gemm({ m: rows, n: V, k: n, transposeA: false, transposeB: false, a: scratch, b: v, c: to, add: !fresh })
    if (done) run['normalize']!(to, rows, V, stats)
  })
  return { y, sums }
}

/** dv = pᵀ·dy, ds = p·(dy·vᵀ − Σ dy·y), dq = ds·k, dk = dsᵀ·q, a tile at a time from p made again */
const backward: NonNullable<Faster<Inputs, Attrs>['gradient']> = (
  { dy, saved, attrs, wants },
  backend: WasmBackend,
) => {
  const { q, k, v, bias: b, y, sums } = saved as unknown as Inputs & { y: Tensor; sums?: Tensor }
  const inputs = { q, k, v, bias: b }
  const sizes = sums && !wants('bias') && dy.dtype === 'float32' ? sizesOf(inputs, attrs) : undefined
  const tools = sizes && toolsOf(backend)
  if (!sums || !sizes || !tools) return undefined
  const { gemm, run, scratch } = tools
  const { S, V } = sizes
  const { scale, softcap: cap = 0 } = attrs
  const step = stepsOf(b)[2]
  const [dq, dk, dv] = [wants('q') && output(q.shape), wants('k') && output(k.shape), wants('v') && output(v.shape)]
  const [aq, ak, av, ay, ady, as] = [q, k, v, y, dy, sums].map(addressOf) as [...Addresses, number]
  const [tq, tk, tv] = [dq, dk, dv].map((t) => (t ? addressOf(t) : 0)) as [number, number, number]
  const { HEAPU8 } = backend.wasm
  if (dk) HEAPU8.fill(0, tk, tk + 4 * k.size)
  if (dv) HEAPU8.fill(0, tv, tv + 4 * v.size)
  const pull = scratch + 4 * ROWS * KEYS
  const [kept, turned] = [
    { transposeA: false, transposeB: false },
    { transposeA: true, transposeB: false, add: true },
  ]
  tiles(sizes, attrs, b, ({ row, rows, key, n, first, last, bias, fresh }) => {
    const [query, d, out] = [aq + 4 * row * S, ady + 4 * row * V, ay + 4 * row * V]
    const across = { m: rows, n, transposeA: false, transposeB: true }
    gemm({ ...across, k: S, a: query, b: ak + 4 * key * S, c: scratch })
    gemm({ ...across, k: V, a: d, b: av + 4 * key * V, c: pull })
    run['slopes']!(scratch, pull, rows, n, first, last, as + 8 * row, d, out, V, scale, cap, bias, step)
    if (dv) gemm({ ...turned, m: n, n: V, k: rows, a: scratch, b: d, c: tv + 4 * key * V })
    if (dk) gemm({ ...turned, m: n, n: S, k: rows, a: pull, b: query, c: tk + 4 * key * S })
    if (dq) gemm({ ...kept, m: rows, n: S, k: n, a: pull, b: ak + 4 * key * S, c: tq + 4 * row * S, add: !fresh })
  })
  return { ...(dq && { q: dq }), ...(dk && { k: dk }), ...(dv && { v: dv }) }
}

export const attention: Faster<Inputs, Attrs> = {
  forward: (inputs, attrs, backend: WasmBackend) => {
    const found = forward(inputs, attrs, backend)
    found?.sums.dispose()
    return found?.y
  },
  ahead: (inputs, attrs, backend: WasmBackend) => {
    const found = forward(inputs, attrs, backend)
    return found && { y: found.y, saved: { sums: found.sums } }
  },
  gradient: backward,
}
