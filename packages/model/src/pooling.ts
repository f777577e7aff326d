import type { Params, Tensor } from '@weftjs/spec'
import { cast, div, equal, expandDims, greater, max, mul, notEqual, range, sub, sum } from '@weftjs/tensor'

/** 1 for the tokens of a text and 0 for padding [B, T]: by `mask` or `segments`, or else by the id of the padding; undefined: all */
export const realTokens = ({ mask, segments, ids }: Params, pad: unknown): Tensor | undefined => {
  const given = mask ?? segments
  if (given) return cast(greater(given, 0), 'float32')
  return ids && typeof pad === 'number' ? cast(notEqual(ids, pad), 'float32') : undefined
}

/**
 * The logits of a text [B, C] from those of its tokens [B, T, C]  —  Li et al., arXiv:2310.01208
 *
 * `mean` commutes with a linear head, `max` does not, so that all are taken after it.
 */
export const pooled = (
  logits: Tensor,
  pooling: 'first' | 'last' | 'mean' | 'max',
  real: Tensor | undefined,
): Tensor => {
  const [, T] = logits.shape as [number, number, number]
  const weigh = (w: Tensor): Tensor => sum(mul(logits, expandDims(w, 2)), 1) // [B, C]
  const seen = real && expandDims(real, 2) // [B, T, 1]
  if (pooling === 'max') return max(seen ? sub(logits, mul(sub(1, seen), 1e9)) : logits, 1)
  if (pooling === 'mean') return real ? div(weigh(real), sum(real, 1, true)) : div(sum(logits, 1), T)
  const places = expandDims(range(1, T + 1, 1, 'float32'), 0) // [1, T]
  const order = pooling === 'first' ? sub(T + 1, places) : places
  const scored = real ? mul(order, real) : order // [B or 1, T]
  return weigh(cast(equal(scored, max(scored, 1, true)), 'float32'))
}
