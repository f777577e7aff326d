import type { Adapter, RunContext, Site, Tensor2D, Tensor4D, Weight } from '@weftjs/spec'
import {
  add,
  div,
  fill,
  gatherRows,
  log,
  matMul,
  mul,
  numbersNow,
  reshape,
  sigmoid,
  sub,
  type Tensor,
  tensor1d,
  sum as total,
  transpose,
  zeros,
} from '@weftjs/tensor'
import { lowRank, scale, sum } from '@weftjs/weight'
import { mustBeWhole } from './shared/start.ts'

export interface PolyOptions {
  /** r */
  readonly rank?: number
  readonly alpha?: number
  /** T tasks; with more than one, each row of a batch says its own: `inputs.task` [B] int32 */
  readonly tasks?: number
  /** m LoRAs that are mixed */
  readonly skills?: number
  /** h parts of the features, each with a mixture of its own: 1 is Poly, more is MHR */
  readonly heads?: number
  /** gates are drawn while training: relaxed Bernoulli of temperature 1 */
  readonly relaxed?: boolean
  /** `routing` trains z alone (MHR-z); `average` keeps every gate at 1/m, z then is of no use (MHR-μ) */
  readonly trains?: 'all' | 'routing' | 'average'
  /** the task of all rows, by which the adapter is one LoRA and can be folded */
  readonly task?: number
}
export interface PolyState extends Record<string, Tensor> {
  /** A [h, m, in/h, r] */
  a: Tensor4D
  /** B [h, m, r, out/h], zero at first */
  b: Tensor4D
  /** logits of the gates [T, h·m] */
  z: Tensor2D
}

/** numbers that train at a site: m·r·(in + out) + T·h·m */
export const trainable = (
  { weight }: Site,
  { rank = 8, tasks = 1, skills = 4, heads = 1, trains = 'all' }: PolyOptions = {},
): number => {
  const [out, input] = weight!.shape
  return (
    (trains === 'routing' ? 0 : skills * rank * (input + out)) + (trains === 'average' ? 0 : tasks * heads * skills)
  )
}

/** W + (α/r)·A·B of the row's task, A and B mixed of m by σ(z) over their sum, head by head  —  Caccia et al., arXiv:2211.03831 */
export const poly = (options: PolyOptions = {}): Adapter<PolyState> => {
  const { rank = 8, alpha = 1, tasks = 1, skills = 4, heads = 1, relaxed = true, trains = 'all', task } = options
  for (const [what, n] of Object.entries({ rank, tasks, skills, heads })) mustBeWhole('poly', what, n)
  if (task !== undefined && !(Number.isInteger(task) && task >= 0 && task < tasks))
    throw new Error(`poly: task must be a whole number below tasks (${tasks}), found ${task}`)

  /** the tasks of the rows [B], or the one of all */
  const tasksOf = ({ site, inputs }: RunContext): Tensor | number => {
    if (task !== undefined) return task
    const given = inputs['task']
    if (!given) {
      if (tasks === 1) return 0
      throw new Error(
        `${site.name}: poly mixes for ${tasks} tasks, and the inputs name none; give inputs.task [B], or the option "task"`,
      )
    }
    if (given.rank !== 1 || given.dtype !== 'int32')
      throw new Error(`${site.name}: inputs.task must be [B] of int32, found [${given.shape}] of ${given.dtype}`)
    const odd = Array.from(numbersNow(given) ?? []).find((t) => !(t >= 0 && t < tasks))
    if (odd !== undefined) throw new Error(`${site.name}: there are ${tasks} tasks, and inputs.task names ${odd}`)
    return given
  }
  /** gates [n, h, m] for z of n rows */
  const gates = (z: Tensor, { training, rng }: RunContext): Tensor => {
    const n = z.shape[0]!
    if (trains === 'average') return fill([n, heads, skills], 1 / skills)
    const logits = reshape(z, [n, heads, skills])
    const u = training && relaxed && rng ? rng.uniform([n, heads, skills], 1e-7, 1 - 1e-7) : undefined
    const open = sigmoid(u ? add(logits, sub(log(u), log(sub(1, u)))) : logits)
    return div(open, add(total(open, -1, true), 1e-12))
  }
  /** Aᵗ [n, in, r] and Bᵗ [n, r, out] of the rows */
  const mixed = ({ a, b }: PolyState, rows: Tensor, ctx: RunContext): [Tensor, Tensor] => {
    const n = rows.shape[0]!
    const [, , part, r] = a.shape
    const [, , , piece] = b.shape
    const w = transpose(gates(rows, ctx), [1, 0, 2]) // [h, n, m]
    const of = (t: Tensor4D, size: number): Tensor => matMul(w, reshape(t, [heads, skills, size])) // [h, n, size]
    const A = transpose(reshape(of(a, part * r), [heads, n, part, r]), [1, 0, 2, 3])
    const B = transpose(reshape(of(b, r * piece), [heads, n, r, piece]), [1, 2, 0, 3])
    return [reshape(A, [n, heads * part, r]), reshape(B, [n, r, heads * piece])]
  }
  return {
    name: 'poly',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      if (out % heads || input % heads)
        throw new Error(`${site.name}: ${heads} heads do not divide ${out} and ${input}; take a common divisor of them`)
      const bound = Math.sqrt(heads / input)
      return {
        state: {
          a: rng.fork('a').uniform([heads, skills, input / heads, rank], -bound, bound) as Tensor4D,
          b: zeros([heads, skills, rank, out / heads]) as Tensor4D,
          z: rng.fork('z').uniform([tasks, heads * skills], -1e-3, 1e-3) as Tensor2D,
        },
        trains: trains === 'all' ? ['a', 'b', 'z'] : trains === 'routing' ? ['z'] : ['a', 'b'],
      }
    },
    weight: (base, state, ctx) => {
      const which = tasksOf(ctx)
      const s = alpha / rank
      const one = typeof which === 'number'
      const rows = gatherRows(state.z, one ? tensor1d([which], 'int32') : which) // [n, h·m]
      const [A, B] = mixed(state, rows, ctx)
      if (one) {
        const [a, b] = [A, B].map((t) => transpose(reshape(t, t.shape.slice(1) as [number, number]))) as [
          Tensor2D,
          Tensor2D,
        ]
        return sum(base, scale(s, lowRank(b, a)))
      }
      return byRow(base, mul(A, s), B, ctx.site.name)
    },
  }
}

/** a matrix for each row of the batch: x [n, ..., in], A [n, in, r], B [n, r, out] */
const byRow = (base: Weight, A: Tensor, B: Tensor, site: string): Weight => ({
  shape: base.shape,
  format: 'poly',
  parts: { ...base.parts, A, B },
  apply: (x) => {
    const [n] = A.shape as [number]
    if (x.shape[0] !== n) throw new Error(`${site}: inputs.task names ${n} rows, and the batch has ${x.shape[0]}`)
    const y = matMul(matMul(reshape(x, [n, -1, x.shape.at(-1)!]), A), B)
    return add(base.apply(x), reshape(y, [...x.shape.slice(0, -1), B.shape[2]!]))
  },
  dense: () => {
    throw new Error(`${site}: each row has the matrix of its own task; give poly the option "task" to have one`)
  },
  like: base.like,
})
