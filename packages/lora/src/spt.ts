import type { Adapter, Seen, Site, Start, Tensor2D } from '@weftjs/spec'
import { type Tensor, type Tensor1D, zeros } from '@weftjs/tensor'
import { lowRank, sum } from '@weftjs/weight'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { type SparseState, sizeOf, sparseStart, withSparse } from './shared/sparse.ts'
import { kaiming, mustBeWhole } from './shared/start.ts'
import { topOfAll } from './shared/top-of-all.ts'

/** what a site gets: `lora`, or how many numbers of its matrix */
export type SptPlan = Readonly<Record<string, 'lora' | number>>

export interface SptOptions {
  /** numbers that train in all, about: τ is chosen so that the plan comes nearest */
  readonly budget?: number
  /** τ, how many of the most sensitive numbers decide, where no budget is given; a hundredth of all by default */
  readonly top?: number
  /** r */
  readonly rank?: number
  /** κ: a matrix of which P/κ numbers or more are among the top gets LoRA, of P = r·(in + out) numbers */
  readonly kappa?: number
  /** of the inputs of LoRA, while training */
  readonly dropout?: number
  /** what an earlier calibration came to; places and values are then read from its file */
  readonly plan?: SptPlan
}
export interface SptState extends Record<string, Tensor> {
  /** LoRA's A [r, in] and B [out, r], or */
  a?: Tensor2D
  b?: Tensor2D
  /** numbers [k] and their places [2, k] int32, frozen */
  values?: Tensor1D
  places?: Tensor2D
}

const cost = ({ weight }: Site, rank: number): number => rank * (weight!.shape[0] + weight!.shape[1])

/**
 * Numbers that train at a site: r·(in + out) with LoRA, else as many as the plan says. Without a plan the calibration decides,
 * and this is the most that it can come to: LoRA's, or as many numbers as are one too few for LoRA.
 */
export const trainable = (site: Site, { rank = 8, kappa = 10, plan }: SptOptions = {}): number => {
  const all = cost(site, rank)
  const given = plan && (plan[site.name] ?? 0)
  if (given !== undefined) return given === 'lora' ? all : given
  return kappa ? Math.max(all, Math.min(sizeOf(site), Math.ceil(all / kappa) - 1)) : sizeOf(site)
}

/** Which sites get LoRA and which numbers of the others train, for the τ that the options give or that meets the budget. */
const planned = (
  sites: readonly Site[],
  seen: (site: Site) => Seen,
  options: SptOptions,
): Map<string, 'lora' | number[]> => {
  const { rank = 8, kappa = 10, budget } = options
  const total = sites.reduce((n, s) => n + sizeOf(s), 0)
  const top = options.top ?? Math.max(1, Math.round(total / 100))
  if (top > total) throw new Error(`spt: top ${top} exceeds the ${total} numbers at its sites; lower it`)
  const read = (i: number): ArrayLike<number> => seen(sites[i]!).get('fisher').dataSync()
  const { from, flat, value } = topOfAll(read, sites.length, budget ? Math.min(total, 4 * budget) : top)
  if (!(value[0]! > 0)) throw new Error('spt: no gradient reaches the sites; calibrate on data with targets')
  const structured = (n: number, site: Site): boolean => n >= cost(site, rank) / kappa
  let tau = top
  if (budget) {
    // the trainable total after each number more
    const counts = sites.map(() => 0)
    let [now, nearest] = [0, Number.POSITIVE_INFINITY]
    from.forEach((i, j) => {
      const own = (n: number): number => (n && structured(n, sites[i]!) ? cost(sites[i]!, rank) : n)
      now += own(counts[i]! + 1) - own(counts[i]!)
      counts[i]!++
      const gap = Math.abs(now - budget)
      if (gap < nearest) [nearest, tau] = [gap, j + 1]
    })
  }
  const flats = sites.map((): number[] => [])
  for (let j = 0; j < tau; j++) flats[from[j]!]!.push(flat[j]!)
  return new Map(
    flats.map((own, i) => [
      sites[i]!.name,
      structured(own.length, sites[i]!) && own.length ? 'lora' : own.sort((a, b) => a - b),
    ]),
  )
}

/** the plan as it was carried out, for `plan`: from the states of an attached network, by site */
export const sptPlan = (states: Readonly<Record<string, SptState>>): SptPlan =>
  Object.fromEntries(Object.entries(states).map(([n, s]) => [n, s.a ? 'lora' : s.values!.size]))

/** W + B·A where many numbers are sensitive (E[g²]), W + S at the few that are elsewhere  —  He et al., arXiv:2303.08566 */
export const spt = (options: SptOptions = {}): Adapter<SptState> => {
  const { rank = 8, kappa = 10, dropout = 0.1, plan, budget, top } = options
  mustBeWhole('spt', 'rank', rank)
  mustBeChance('spt: dropout', dropout)
  if (!(kappa >= 0)) throw new Error(`spt: kappa must be at least 0, found ${kappa}`)
  for (const [what, n] of Object.entries({ budget, top })) if (n !== undefined) mustBeWhole('spt', what, n)
  return {
    name: 'spt',
    options: { ...options },
    settled: (states) => ({ ...options, plan: sptPlan(states) }),
    ...(!plan && { calibrates: ['fisher'] as const }),
    init: (site, { sites, seen, once, rng }): Start<SptState> | undefined => {
      const given = plan?.[site.name] ?? 0
      const own = plan ? given : once('plan', () => planned(sites, seen, options)).get(site.name)!
      if (own === 'lora') {
        const [out, input] = site.weight!.shape
        return { state: { a: kaiming(rng, [rank, input]) as Tensor2D, b: zeros([out, rank]) as Tensor2D } }
      }
      const flat = typeof own === 'number' ? Int32Array.from({ length: own }, (_, i) => i) : own
      return flat.length ? (sparseStart(site, flat) as Start<any>) : undefined
    },
    weight: (base, { a, b, ...sparse }, ctx) =>
      a && b
        ? sum(base, droppedWhile(ctx, dropout, lowRank(b, a)))
        : withSparse(base, sparse as unknown as SparseState),
  }
}
