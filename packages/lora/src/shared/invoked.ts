import type { RunContext, Tensor } from '@weftjs/spec'
import {
  cast,
  equal,
  expandDims,
  greater,
  greaterEqual,
  logicalAnd,
  max,
  mul,
  pad,
  range,
  reshape,
  slice,
  sub,
  tidy,
  untaped,
  zeros,
} from '@weftjs/tensor'

/** 1 where the sequence `tokens` begins in ids, else 0: [B, K] */
const beginnings = (ids: Tensor, tokens: readonly number[]): Tensor => {
  const [B, K] = ids.shape as [number, number]
  const n = K - tokens.length + 1
  if (n < 1) return zeros([B, K])
  const found = tokens
    .map((token, j) => cast(equal(slice(ids, [0, j], [B, n]), token), 'float32'))
    .reduce((a, b) => mul(a, b)) // [B, n]
  return pad(found, [
    [0, 0],
    [0, K - n],
  ])
}

/** 1 for every token from the last beginning on, within its segment where rows are packed: [B, K] */
const since = (begins: Tensor, segments: Tensor | undefined): Tensor => {
  const K = begins.shape[1]!
  const place = cast(range(1, K + 1, 1, 'int32'), 'float32') // counted from 1
  const at = mul(begins, place) // [B, K]
  const same = segments && cast(equal(expandDims(segments, 2), expandDims(segments, 1)), 'float32') // [B, K, K]
  const last = same ? max(mul(same, expandDims(at, 1)), 2) : max(at, 1, true) // [B, K] or [B, 1]
  return cast(logicalAnd(greater(last, 0), greaterEqual(place, last)), 'float32')
}

/** masks of one batch of ids: they carry no gradient, so that all sites share one while it lives */
const made = new WeakMap<Tensor, Map<string, Tensor>>()

/** all ids of the texts so far [B, K]: what a cache has seen, then those of this pass; −1 where a mask hides them */
const textOf = (ids: Tensor, { inputs, extend }: RunContext, key: string): Tensor => {
  const [B, T] = ids.shape as [number, number]
  const now = reshape(cast(ids, 'float32'), [B, 1, T, 1])
  const flat = reshape(extend ? extend(key, now, now).k : now, [B, -1]) // [B, K]
  const { mask } = inputs
  if (!mask || mask.shape[1] !== flat.shape[1]) return flat
  const seen = cast(mask, 'float32')
  return sub(mul(flat, seen), sub(1, seen))
}

/**
 * 1 for the tokens [B, T] of this pass from the last place on where the sequence `tokens` begins, 0 before it and where it
 * does not occur. While a text is generated, tokens of earlier passes count, too.
 */
export const invoked = (ctx: RunContext, tokens: readonly number[]): Tensor => {
  const { ids, segments } = ctx.inputs
  if (!ids) throw new Error(`${ctx.site.name}: this adapter looks for tokens, and the model reads none`)
  const key = `invoked.${tokens.join('-')}`
  const make = (): Tensor =>
    tidy(() => {
      const [B, T] = ids.shape as [number, number]
      const on = untaped(() => since(beginnings(textOf(ids, ctx, key), tokens), segments)) // [B, K]
      return slice(on, [0, on.shape[1]! - T], [B, T])
    })
  if (ctx.extend) {
    // one place of the pass remembers the text for all others
    const { scratch } = ctx
    if (!scratch.has(key)) scratch.set(key, make())
    return scratch.get(key)!
  }
  const known = made.get(ids) ?? new Map<string, Tensor>()
  made.set(ids, known)
  const found = known.get(key)
  if (found && !found.isDisposed) return found
  const fresh = make()
  known.set(key, fresh)
  return fresh
}
