import {
  add,
  matMul,
  mul,
  reshape,
  slice,
  softmax,
  square,
  sub,
  sum,
  type Tensor,
  tanh,
  tensor,
} from '@tensorflow/tfjs-core'
import { unbroadcast } from '../gradients/rule.ts'
import { defineKernel } from '../kernel.ts'

export interface AttentionOptions {
  /** factor of q·kᵀ; default 1/√S */
  readonly scale?: number
  /** query t sees keys up to t + (K − T) */
  readonly causal?: boolean
  /** and no more than this many keys back (sliding window) */
  readonly window?: number | undefined
  /** c·tanh(score/c), Gemma 2 */
  readonly softcap?: number | undefined
  /** only so many of the keys and values are there, the first; what follows is room for more. Default: all */
  readonly keys?: number
}
export interface Attrs {
  readonly scale: number
  readonly causal: boolean
  readonly window: number | undefined
  readonly softcap: number | undefined
  /** of a cache with room for more: how many are there */
  readonly keys?: number
}
export interface Inputs extends Record<string, Tensor | undefined> {
  q: Tensor
  k: Tensor
  v: Tensor
  bias: Tensor | undefined
}

/** [T, K]: 0 where query t may look at key k, −1e9 where not; undefined when everything is seen */
const causalBias = (t: number, k: number, causal: boolean, window = Number.POSITIVE_INFINITY): Tensor | undefined => {
  if (!causal && window === Number.POSITIVE_INFINITY) return undefined
  const within = (j: number): number => Math.min(Math.max(j, 0), k)
  const rows = Array.from({ length: t }, (_, i) => i + (k - t)) // the key at each query's own place
  const from = rows.map((at) => within(at - window + 1))
  const to = rows.map((at) => within(at + (causal ? 1 : window)))
  if (from.every((j) => j === 0) && to.every((j) => j === k)) return undefined
  const values = new Float32Array(t * k).fill(-1e9)
  for (let i = 0; i < t; i++) values.fill(0, i * k + from[i]!, i * k + Math.max(from[i]!, to[i]!))
  return tensor(values, [t, k])
}

/**
 * H query heads in G groups: everything as [B, G, R·T, ·], so that keys and values are never copied per query head.
 * Returns the capped scores' slope too, for the gradient.
 */
const probabilities = (
  { q, k, bias }: Inputs,
  { scale, causal, window, softcap }: Attrs,
): { p: Tensor; slope: Tensor | undefined } => {
  const [B, H, T, S] = q.shape as [number, number, number, number]
  const [, G, K] = k.shape as [number, number, number]
  const R = H / G
  let scores = mul(matMul(reshape(q, [B, G, R * T, S]), k, false, true), scale) // [B, G, R·T, K]
  let slope: Tensor | undefined
  if (softcap) {
    const t = tanh(mul(scores, 1 / softcap))
    slope = sub(1, square(t))
    scores = mul(t, softcap)
  }
  const mask = causalBias(T, K, causal, window)
  if (mask || bias) {
    let open = reshape(scores, [B, H, T, K])
    if (mask) open = add(open, mask)
    if (bias) open = add(open, bias)
    scores = reshape(open, [B, G, R * T, K])
  }
  return { p: softmax(scores), slope }
}

const kernel = defineKernel<Inputs, Attrs>({
  name: 'Attention',
  plain: (inputs, attrs) => {
    const { p } = probabilities(inputs, attrs)
    return reshape(matMul(p, inputs.v), [...inputs.q.shape.slice(0, 3), inputs.v.shape[3]!])
  },
  keeps: () => ['q', 'k', 'v', 'bias', 'y'],
  gradient: ({ dy, saved, attrs, wants }) => {
    const { q, k, v, bias, y } = saved as { q: Tensor; k: Tensor; v: Tensor; bias: Tensor | undefined; y: Tensor }
    const [B, H, T, S] = q.shape as [number, number, number, number]
    const [, G, K] = k.shape as [number, number, number]
    const rows = (H / G) * T
    const { p, slope } = probabilities({ q, k, v, bias }, attrs)
    const d = reshape(dy, [B, G, rows, v.shape[3]!])
    const dv = wants('v') && matMul(p, d, true, false)
    const along = sum(mul(d, reshape(y, d.shape)), -1, true) // Σ dy·y = Σ p·dp, per row
    let ds = mul(p, sub(matMul(d, v, false, true), along)) // [B, G, R·T, K]
    const dbias = wants('bias') && bias && unbroadcast(reshape(ds, [B, H, T, K]), bias.shape)
    if (slope) ds = mul(ds, slope)
    const scaled = mul(ds, attrs.scale)
    return {
      ...(dv && { v: dv }),
      ...(dbias && { bias: dbias }),
      ...(wants('q') && { q: reshape(matMul(scaled, k), q.shape) }),
      ...(wants('k') && { k: matMul(scaled, reshape(q, [B, G, rows, S]), true, false) }),
    }
  },
})

/** over the keys that are there; backends without a way of their own cut them out first */
const cached = defineKernel<Inputs, Attrs & { readonly keys: number }>({
  name: 'CachedAttention',
  plain: ({ q, k, v, bias }, { keys, ...attrs }) => {
    const there = (x: Tensor): Tensor => {
      const [B, G, , S] = x.shape as [number, number, number, number]
      return slice(x, [0, 0, 0, 0], [B, G, keys, S]) // [B, G, keys, S]
    }
    return kernel({ q, k: there(k), v: there(v), bias }, attrs)
  },
})

/**
 * softmax(scale·q·kᵀ + bias)·v with grouped key-value heads. The probabilities are made again in the backward pass, not kept.
 * q [B, H, T, S]; k, v [B, G, K, S], G divides H; bias broadcasts to [B, H, T, K]; → [B, H, T, S]
 * —  Vaswani et al., arXiv:1706.03762; grouped queries: Ainslie et al., arXiv:2305.13245
 */
export const attention = (q: Tensor, k: Tensor, v: Tensor, bias?: Tensor, options: AttentionOptions = {}): Tensor => {
  if (q.shape[1]! % k.shape[1]! !== 0)
    throw new Error(`attention: ${q.shape[1]} query heads cannot share ${k.shape[1]} key-value heads evenly`)
  const { scale = 1 / Math.sqrt(q.shape[3]!), causal = false, window, softcap, keys = k.shape[2]! } = options
  if (keys < k.shape[2]!) return cached({ q, k, v, bias }, { scale, causal, window, softcap, keys })
  return kernel({ q, k, v, bias }, { scale, causal, window, softcap })
}
