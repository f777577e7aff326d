import type { Adapter, Site, Tensor, Tensor1D, Tensor2D } from '@weftjs/spec'
import { add, linear, mul, zeros } from '@weftjs/tensor'
import { lowRank, scale as scaled, sum } from '@weftjs/weight'
import { outputSide } from './shared/output-side.ts'
import { kaiming, mustBeNumber, mustBeWhole } from './shared/start.ts'

export interface HydraOptions {
  /** r of the parallel branch, which reads the input; 0 leaves it out (SeqLoRA) */
  readonly parallel?: number
  /** r of the sequential branch, which reads the output; 0 leaves it out (LoRA) */
  readonly sequential?: number
  /** s */
  readonly scale?: number
  /** a bias in each factor of each branch, as in the paper's vision code */
  readonly bias?: boolean
  /** distribution of each A: uniform as LoRA's, or normal with deviation 0.02 */
  readonly init?: 'kaiming' | 'gaussian'
}
export interface HydraState extends Record<string, Tensor> {
  /** parallel: A [r, in], B [out, r], and biases [r], [out] */
  a?: Tensor2D
  b?: Tensor2D
  aBias?: Tensor1D
  bBias?: Tensor1D
  /** sequential: A [r, out], B [out, r], and biases [r], [out] */
  c?: Tensor2D
  d?: Tensor2D
  cBias?: Tensor1D
  dBias?: Tensor1D
}

/** numbers that train at a site: r_p·(in + out) + 2·r_s·out; with biases r_p + r_s + 2·out more */
export const trainable = (
  { in: n, out }: Site,
  { parallel = 4, sequential = 8, bias = false }: HydraOptions = {},
): number =>
  parallel * (n + out) +
  2 * sequential * out +
  (bias ? parallel + sequential + (parallel ? out : 0) + (sequential ? out : 0) : 0)

/** y + s·B·A·x + s·D·C·y, y = W·x + bias  —  Kim et al., arXiv:2309.06922 */
export const hydra = (options: HydraOptions = {}): Adapter<HydraState> => {
  const { parallel = 4, sequential = 8, scale = 1, bias = false, init = 'kaiming' } = options
  mustBeNumber('hydra: scale', scale)
  for (const [what, r] of Object.entries({ parallel, sequential })) mustBeWhole('hydra', what, r, 0)
  if (!parallel && !sequential) throw new Error('hydra: both branches have rank 0; give one of them a rank')
  return {
    name: 'hydra',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      if (parallel > Math.min(out, input))
        throw new Error(
          `${site.name}: parallel rank ${parallel} exceeds min(${out}, ${input}); lower it or narrow "at"`,
        )
      if (sequential > out)
        throw new Error(`${site.name}: sequential rank ${sequential} exceeds ${out}; lower it or narrow "at"`)
      const start = (r: number, n: number): Tensor2D =>
        (init === 'gaussian' ? rng.normal([r, n], 0.02) : kaiming(rng, [r, n])) as Tensor2D
      const zero = (...shape: number[]): any => zeros(shape)
      return {
        state: {
          ...(parallel && { a: start(parallel, input), b: zero(out, parallel) }),
          ...(parallel && bias && { aBias: zero(parallel), bBias: zero(out) }),
          ...(sequential && { c: start(sequential, out), d: zero(out, sequential) }),
          ...(sequential && bias && { cBias: zero(sequential), dBias: zero(out) }),
        },
      }
    },
    // (I + s·D·C)·W + s·B·A: the base multiplies once
    weight: (base, { a, b, c, d }) => {
      const after = c && d ? outputSide(base, d, c, scale) : base
      return a && b ? { ...sum(after, scaled(scale, lowRank(b, a))), like: base.like } : after
    },
    // and the same to the bias, with what the branches add of their own
    vector: (which, v, { b, aBias, bBias, c, d, cBias, dBias }) => {
      if (which !== 'bias') return v
      const terms = [
        v && c && d && linear(linear(v, c), d), // [out]
        b && aBias && linear(aBias, b),
        bBias,
        d && cBias && linear(cBias, d),
        dBias,
      ].filter((t): t is Tensor => t !== undefined)
      return terms.reduce<Tensor | undefined>((sum, t) => (sum ? add(sum, mul(t, scale)) : mul(t, scale)), v)
    },
  }
}
