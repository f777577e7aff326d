import type { Adapter, Network, Site, Tensor2D, Weight } from '@weftjs/spec'
import { globalNorm, matMul, mul, reshape, sub } from '@weftjs/tensor'
import { type Factors, toMatrix } from '@weftjs/tensor/linalg'
import { type LoraOptions, type LoraState, lora, loraScale } from './lora.ts'
import { factorsOf, mustBePositive } from './shared/residual.ts'
import { mustBeWhole, mustFit } from './shared/start.ts'
import { topTriplesOf } from './shared/top-triples.ts'

export interface LoftqOptions extends Omit<LoraOptions, 'loraBias'> {
  /** T, rounds of packing and factoring (PEFT: 1, the paper: 5) */
  readonly rounds?: number
  /** power iterations of a randomized SVD, 0 for the whole SVD; by default that of matrices up to 128, and 2 for larger ones */
  readonly niter?: number
}
export type LoftqState = LoraState

/** numbers that train at a site: r·(in + out) */
export const trainable = ({ in: n, out }: Site, { rank = 8 }: LoftqOptions = {}): number => rank * (n + out)

/** ‖w‖ */
const norm = (w: Tensor2D): number => toMatrix(reshape(globalNorm({ w }), [1, 1]) as Tensor2D).data[0]!

/**
 * Q + (α/r)·B·A near W: in turn Q = pack(W − s·B·A), s·B·A = the top r factors of W − Q  —  Li et al., arXiv:2310.08659
 *
 * `original` is the network before it was packed, and the format is the packed network's own, whatever it is:
 * `attach(quantize(net, nf4()), [{ adapter: loftq({ rank: 16 }, net), at }], rng)`. Where packing has lost nothing (a dense
 * base, or no original at hand) there is nothing to make up for, and the start is LoRA's. PEFT leaves s out of B·A.
 */
export const loftq = (options: LoftqOptions = {}, original?: Pick<Network<any>, 'weights'>): Adapter<LoftqState> => {
  const { rounds = 1, niter, ...rest } = options
  mustBeWhole('loftq', 'rounds', rounds)
  if (niter !== undefined) mustBeWhole('loftq', 'niter', niter, 0)
  const at = loraScale(rest)
  const inner = lora(rest)
  return {
    ...inner,
    name: 'loftq',
    options: { ...options },
    init: (site, ctx) => {
      const { rank, factor } = at(site)
      mustFit(site, rank)
      mustBePositive(`${site.name}: alpha`, factor)
      const w = (original?.weights[site.name] ?? site.weight!).dense() // [out, in]
      if (w.shape.join() !== site.weight!.shape.join())
        throw new Error(`${site.name}: the original is [${w.shape}], the base [${site.weight!.shape}]; give its own`)
      let [wanted, base, state] = [w, undefined as Weight | undefined, undefined as Factors | undefined]
      for (let i = 0; i < rounds; i++) {
        base = site.weight!.like(wanted)
        const lost = sub(w, base.dense()) as Tensor2D // [out, in]
        if (i === 0 && norm(lost) <= 1e-5 * norm(w)) return inner.init(site, ctx)
        state = factorsOf(topTriplesOf(lost, rank, ctx.rng, niter), factor, 0, rank)
        wanted = sub(w, mul(matMul(state.b, state.a), factor)) as Tensor2D // [out, in]
      }
      return { state: { ...state! }, base: base! }
    },
  }
}
