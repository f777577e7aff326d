import type { Params, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { add, addLowRank, linearLowRank, linearSparse } from '@weftjs/tensor'
import { lookup } from './dense.ts'
import { affine, know, knownOf } from './known.ts'

const partsOf = (weights: readonly Weight[]): Params =>
  Object.fromEntries(weights.flatMap((w, i) => Object.entries(w.parts).map(([n, t]) => [`${i}.${n}`, t])))

/** x·(W₁ + W₂ + ...)ᵀ + bias: what is sparse or of low rank goes into another's product, or is added without a temporary */
const applied = (weights: readonly Weight[], x: Tensor, bias?: Tensor): Tensor => {
  const others = weights.filter((w) => !knownOf(w).factors)
  let low = weights.map((w) => knownOf(w).factors).filter((f) => f !== undefined)
  const base = others[0] ?? weights[0]!
  if (!others.length) low = low.slice(1)
  const { matrix } = knownOf(base)
  const thin = matrix && others.find((w) => knownOf(w).sparse)
  const { values, places } = (thin && knownOf(thin).sparse) ?? {}
  const first = matrix && !thin && low.shift()
  const start =
    values && places
      ? linearSparse(x, values, places, base.shape, matrix, bias)
      : first
        ? linearLowRank(x, matrix, first.a, first.b, first.scale, bias)
        : affine(base, x, bias)
  const most = others.slice(1).reduce((y, w) => (w === thin ? y : add(y, w.apply(x))), start)
  return low.reduce((y, { a, b, scale }) => addLowRank(y, x, a, b, scale), most)
}

/** W₁ + W₂ + ...; `like` keeps the format of the first, which is the base */
export const sum = (...weights: readonly Weight[]): Weight => {
  const first = weights[0]
  if (!first) throw new Error('sum: needs at least one weight')
  const odd = weights.find((w) => w.shape.join() !== first.shape.join())
  if (odd) throw new Error(`sum: shapes [${first.shape}] and [${odd.shape}] differ`)
  const total = (f: (w: Weight) => Tensor): Tensor => weights.map(f).reduce((a, b) => add(a, b))
  const whole: Weight = {
    shape: first.shape,
    format: 'sum',
    parts: partsOf(weights),
    apply: (x) => applied(weights, x),
    dense: () => total((w) => w.dense()) as Tensor2D,
    like: first.like,
    rows: (index) => total((w) => rowsOf(w, index)),
  }
  return know(whole, { affine: (x, bias) => applied(weights, x, bias) })
}

/** rows of any weight, from its dense form where it has no better way */
export const rowsOf = (w: Weight, index: Tensor): Tensor => w.rows?.(index) ?? lookup(w.dense(), index)
