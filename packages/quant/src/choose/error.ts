import type { Seen, Statistic, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import {
  gather,
  greater,
  matMul,
  maximum,
  mul,
  reshape,
  rsqrt,
  sqrt,
  sub,
  sum,
  tensor1d,
  tidy,
  where,
  zerosLike,
} from '@weftjs/tensor'

/** What weighs an error, of what was seen; nothing where all weights count alike. */
export interface Weighed {
  readonly seen: Seen
  readonly by: readonly Extract<Statistic, 'moment' | 'fisher'>[]
}

/** 1/√ of the diagonal of m [n, n]; 0 where that is 0 */
const scalesOf = (m: Tensor): Tensor => {
  const n = m.shape[0]!
  const places = tensor1d(
    Int32Array.from({ length: n }, (_, i) => i * (n + 1)),
    'int32',
  )
  const squares = gather(reshape(m, [-1]), places) // [n]
  return where(greater(squares, 0), rsqrt(maximum(squares, 1e-30)), zerosLike(squares))
}

/** Σ m ⊙ G·m, G the weights' curvature: F alone on its diagonal, within a row as its inputs go together, or E[x·xᵀ] for all rows */
const squared = (m: Tensor, of: Weighed | undefined): Tensor => {
  if (!of) return sum(mul(m, m))
  const get = (s: Weighed['by'][number]): Tensor2D | undefined =>
    of.by.includes(s) ? (of.seen.get(s) as Tensor2D) : undefined
  const [fisher, moment] = [get('fisher'), get('moment')] // [out, in], [in, in]
  if (!moment) return sum(mul(mul(m, fisher!), m))
  const rows = fisher ? mul(mul(m, sqrt(fisher)), scalesOf(moment)) : m
  return sum(mul(matMul(rows, moment), rows))
}

/**
 * What a matrix loses in a format: E‖(Q − W)·x‖²/out, from E[x·xᵀ]; ½ Σ F ⊙ (Q − W)²; or, of both, ½ Σ over rows of d·R·dᵀ
 * with d = √F ⊙ (Q − W) and R the correlation of the inputs, in which errors that make each other good cost little; else
 * mean (Q − W)². `relative` to the same of W.
 */
export const errorOf = async (
  weight: Weight,
  trial: Weight,
  of: Weighed | undefined,
  relative: boolean,
): Promise<number> => {
  const size = async (m: () => Tensor): Promise<number> => {
    const found = tidy(() => squared(m(), of))
    const [value] = await found.data()
    found.dispose()
    return value!
  }
  const lost = await size(() => sub(trial.dense(), weight.dense()))
  const [out, input] = weight.shape
  if (relative) return lost / ((await size(() => weight.dense())) || 1)
  return lost / (!of ? out * input : of.by.includes('fisher') ? 2 : out)
}
