import type { Params, Tensor } from '@weftjs/spec'
import { cast, div, expandDims, greater, linear, mul, oneHot, ones, reshape, sum, topk, untaped } from '@weftjs/tensor'

/** 1 at the k largest of p [..., E] and 0 elsewhere, a constant; of equal ones the first are taken */
export const topMask = (p: Tensor, k: number): Tensor =>
  untaped(() => {
    const E = p.shape.at(-1)!
    if (k >= E) return ones(p.shape)
    const { indices } = topk(reshape(p, [-1, E]), k)
    return reshape(sum(cast(oneHot(cast(indices, 'int32') as never, E), 'float32'), 1), p.shape)
  })

/** the k largest of p [..., E] over their sum, zero elsewhere: gates that sum to 1 */
export const topGates = (p: Tensor, mask: Tensor): Tensor => {
  const kept = mul(p, mask)
  return div(kept, sum(kept, -1, true))
}

/** Σ gᵢ·Bᵢ·Aᵢ·x, none of them multiplied out: a [E·r, in], b [out, E·r], gates [..., E], x [..., in] → [..., out] */
export const experts = (x: Tensor, a: Tensor, b: Tensor, gates: Tensor): Tensor => {
  const E = gates.shape.at(-1)!
  const h = linear(x, a) // [..., E·r]
  const lead = h.shape.slice(0, -1)
  const gated = mul(reshape(h, [...lead, E, h.shape.at(-1)! / E]), expandDims(gates, -1)) // [..., E, r]
  return linear(reshape(gated, h.shape), b)
}

/** 1 for tokens and 0 for padding [B, T, 1], where the inputs tell them apart */
export const tokensOf = ({ segments, mask }: Params, [B, T]: readonly number[]): Tensor | undefined => {
  const given = [segments, mask].find((t) => t?.shape[0] === B && t?.shape[1] === T)
  return given && expandDims(cast(greater(given, 0), 'float32'), -1)
}

/** mean of x [B, T, E] over its tokens: [E] over all of them, or [B, E] of each sequence */
export const meanOver = (x: Tensor, tokens: Tensor | undefined, axes: number[]): Tensor => {
  if (!tokens)
    return div(
      sum(x, axes),
      axes.reduce((n, axis) => n * x.shape[axis]!, 1),
    )
  return div(sum(mul(x, tokens), axes), sum(tokens, axes))
}
