import type { Adapter, Site, Tensor, Tensor1D, Tensor3D } from '@weftjs/spec'
import { add, zeros } from '@weftjs/tensor'
import { hypercomplex } from '@weftjs/weight'
import { ACTIVATIONS, activated, type Hidden, thinned } from './shared/bottleneck.ts'
import { mustBeChance } from './shared/dropped.ts'
import { mustBeWhole } from './shared/start.ts'

export interface CompacterOptions {
  /** hidden units are the width over this */
  readonly reduction?: number
  /** n, terms of each sum and size of the slow weights; divides the width and the hidden units */
  readonly terms?: number
  /** of the fast weights sᵢ·tᵢ */
  readonly rank?: number
  readonly activation?: Hidden
  /** chance that a number of what the adapter adds is dropped while training */
  readonly dropout?: number
}
export interface CompacterState extends Record<string, Tensor> {
  /** s and t of the way down [n, d/n, r], [n, r, w/n], and its bias [w] */
  ds: Tensor3D
  dt: Tensor3D
  downBias: Tensor1D
  /** of the way up [n, w/n, r], [n, r, d/n], [d] */
  us: Tensor3D
  ut: Tensor3D
  upBias: Tensor1D
}

const widths = ({ name, out }: Site, { reduction = 32, terms = 4 }: CompacterOptions): [d: number, w: number] => {
  const w = Math.floor(out / reduction)
  if (w < 1) throw new Error(`${name}: reduction ${reduction} leaves nothing of width ${out}; lower it`)
  if (out % terms || w % terms)
    throw new Error(
      `${name}: ${terms} terms must divide the width ${out} and its hidden units ${w}; change terms or reduction`,
    )
  return [out, w]
}

/** numbers that train at a site: 2·r·(d + w) and d + w biases; n³ slow weights are common to all sites */
export const trainable = (site: Site, options: CompacterOptions = {}): number => {
  const [d, w] = widths(site, options)
  return (2 * (options.rank ?? 1) + 1) * (d + w)
}

/** y + U(gelu(D(y))), D and U = Σᵢ Aᵢ ⊗ sᵢ·tᵢ + bias with Aᵢ common to all layers  —  Mahabadi et al., arXiv:2106.04647 */
export const compacter = (options: CompacterOptions = {}): Adapter<CompacterState> => {
  const { reduction = 32, terms = 4, rank = 1, activation = 'gelu_tanh', dropout = 0 } = options
  for (const [what, n] of Object.entries({ reduction, terms, rank })) mustBeWhole('compacter', what, n)
  mustBeChance('compacter: dropout', dropout)
  if (!ACTIVATIONS.includes(activation))
    throw new Error(`compacter: there is no activation '${activation}'; there are ${ACTIVATIONS.join(', ')}`)
  return {
    name: 'compacter',
    options: { ...options },
    init: (site, { rng, shared }) => {
      const [d, w] = widths(site, options)
      shared('a', (rng) => rng.normal([terms, terms, terms], 1e-4), { trains: true })
      // Xavier with gain √2, each matrix of the n by itself
      const fast = (rows: number, columns: number): Tensor3D => {
        const limit = Math.SQRT2 * Math.sqrt(6 / (rows + columns))
        return rng.uniform([terms, rows, columns], -limit, limit) as Tensor3D
      }
      const bias = (n: number): Tensor1D => zeros([n]) as Tensor1D
      return {
        state: {
          ...{ ds: fast(d / terms, rank), dt: fast(rank, w / terms), downBias: bias(w) },
          ...{ us: fast(w / terms, rank), ut: fast(rank, d / terms), upBias: bias(d) },
        },
      }
    },
    around: (next, x, { ds, dt, downBias, us, ut, upBias }, ctx) => {
      const a = ctx.shared['a']!
      const y = next(x)
      const hidden = activated(add(hypercomplex(a, ds, dt).apply(y), downBias), activation) // [..., w]
      return add(y, thinned(add(hypercomplex(a, us, ut).apply(hidden), upBias), dropout, ctx))
    },
  }
}
