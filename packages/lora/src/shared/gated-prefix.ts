import type { Attention, BlockShape, Tensor } from '@weftjs/spec'
import {
  add,
  cast,
  exp,
  expandDims,
  greater,
  log,
  matMul,
  max,
  mul,
  range,
  reshape,
  sigmoid,
  softmax,
  stopGradient,
  sub,
  sum,
} from '@weftjs/tensor'

/** log Σ exp over the last axis, kept as an axis of one */
const logSumExp = (x: Tensor): Tensor => {
  const top = stopGradient(max(x, -1, true))
  return add(log(sum(exp(sub(x, top)), -1, true)), top)
}

/** scale·q·kᵀ of q [B, H, T, S] and k [B, G, K, S] → [B, H, T, K] */
const scores = (q: Tensor, k: Tensor, scale: number): Tensor => {
  const [B, H, T, S] = q.shape as [number, number, number, number]
  const [, G, K] = k.shape as [number, number, number]
  return reshape(mul(matMul(reshape(q, [B, G, (H / G) * T, S]), k, false, true), scale), [B, H, T, K])
}

/** −1e9 where key j lies after query i, or `window` and more before it: [T, K] */
const hidden = (T: number, K: number, causal: boolean, window: number | undefined): Tensor => {
  const ahead = sub(range(0, K), expandDims(range(K - T, K), 1)) // [T, K] places that a key is ahead of its query
  const after = causal ? greater(ahead, 0) : undefined
  const past = window === undefined ? undefined : greater(mul(ahead, -1), window - 1)
  const all = [after, past].filter((m) => m !== undefined).map((m) => mul(cast(m, 'float32'), -1e9))
  return all.length ? all.reduce((a, b) => add(a, b)) : mul(ahead, 0)
}

/**
 * (1 − λ)·Attn(q, K, V) + λ·softmax(s·q·Pₖᵀ)·Pᵥ, λ = Σ exp(prefix scores) / Σ exp(all scores), for each query and head
 * —  He et al., arXiv:2110.04366, section 3.2. It makes the scores [B, H, T, K] that fused attention does not keep.
 */
export const gatedPrefix = (
  next: (x: Attention) => Tensor,
  x: Attention,
  keys: Tensor,
  values: Tensor,
  { scale, window }: BlockShape,
): Tensor => {
  const [B, H, T, S] = x.q.shape as [number, number, number, number]
  const [, G, l] = keys.shape as [number, number, number]
  const open = add(scores(x.q, x.k, scale), hidden(T, x.k.shape[2]!, x.causal, window))
  const all = logSumExp(x.bias ? add(open, x.bias) : open) // [B, H, T, 1]
  const own = scores(x.q, keys, scale) // [B, H, T, l]
  const gate = sigmoid(sub(logSumExp(own), all)) // λ
  const read = matMul(reshape(softmax(own), [B, G, (H / G) * T, l]), values) // [B, G, R·T, S]
  const base = next(x)
  return add(base, mul(gate, sub(reshape(read, [B, H, T, S]), base)))
}
