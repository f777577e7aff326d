import type { Adapter, Site, Tensor2D, Weight } from '@weftjs/spec'
import { type Tensor, zeros } from '@weftjs/tensor'
import { dense, kron, lowRank, scale, sum } from '@weftjs/weight'
import { type Lycoris, lycorisDropped, mustBeChance } from './shared/dropped.ts'
import { type Ranked, ranked } from './shared/ranked.ts'
import { kaiming, mustBeWhole } from './shared/start.ts'

export interface LokrOptions extends Ranked, Lycoris {
  /** the smaller factor of in and of out, or the most that it may be; -1: as near to the root as it goes */
  readonly factor?: number
  /** C, too, is a product of two of rank r, where that is smaller */
  readonly decomposeBoth?: boolean
  /** outputs that rankDropout leaves grow by their share */
  readonly rankDropoutScale?: boolean
  /** which factor is zero at the start: C (PEFT's default), or D, as LyCORIS has it */
  readonly init?: 'peft' | 'lycoris'
}
/** C [l, m] or its factors ca [l, r], cb [r, m]; D [k, n] or da [k, r], db [r, n] */
export interface LokrState extends Record<string, Tensor> {}

/** n as a product of two, the first not larger: `factor` itself where it divides n, else the pair of least sum with the first up to it */
export const factored = (n: number, factor = -1): [small: number, large: number] => {
  if (factor > 0 && n % factor === 0) return [factor, n / factor]
  const most = factor === -1 ? n : factor
  let [small, large] = [1, n]
  for (let next = 2; next <= most && small < large; next++) {
    if (n % next) continue
    if (next + n / next > small + large) break
    ;[small, large] = [next, n / next]
  }
  return small > large ? [large, small] : [small, large]
}

/** shapes of what trains at [out, in] = [l·k, m·n] */
const shapes = (
  [out, input]: readonly [number, number],
  r: number,
  { factor, decomposeBoth = false }: LokrOptions,
): Record<string, [number, number]> => {
  const [[l, k], [m, n]] = [factored(out, factor), factored(input, factor)]
  const split = (name: string, rows: number, cols: number, wanted: boolean): Record<string, [number, number]> =>
    wanted && r < Math.max(rows, cols) / 2
      ? { [`${name}a`]: [rows, r], [`${name}b`]: [r, cols] }
      : { [name]: [rows, cols] }
  return { ...split('c', l, m, decomposeBoth), ...split('d', k, n, true) }
}

/** numbers that train at a site: l·m or r·(l + m), and k·n or r·(k + n), with out = l·k and in = m·n */
export const trainable = ({ in: n, out }: Site, options: LokrOptions = {}): number =>
  Object.values(shapes([out, n], options.rank ?? 8, options)).reduce((sum, [a, b]) => sum + a * b, 0)

const part = (s: LokrState, name: string): Weight =>
  s[name] ? dense(s[name] as Tensor2D) : lowRank(s[`${name}a`] as Tensor2D, s[`${name}b`] as Tensor2D)

/** W + (α/r)·C⊗D, C [l, m], D [k, n] or a product of rank r, C zero  —  Yeh et al., arXiv:2309.14859; KronA of Edalati et al., arXiv:2212.10650 */
export const lokr = (options: LokrOptions = {}): Adapter<LokrState> => {
  const { factor = -1, init = 'peft', rankDropoutScale = false } = options
  const at = ranked('lokr', options)
  if (factor !== -1) mustBeWhole('lokr', 'factor (or -1)', factor)
  if (init !== 'peft' && init !== 'lycoris') throw new Error(`lokr: init must be 'peft' or 'lycoris', found '${init}'`)
  mustBeChance('lokr: rankDropout', options.rankDropout ?? 0)
  mustBeChance('lokr: moduleDropout', options.moduleDropout ?? 0)
  const zero = init === 'peft' ? ['c', 'ca'] : ['d', 'db']
  return {
    name: 'lokr',
    options: { ...options },
    init: (site, { rng }) => {
      const { rank } = at(site)
      mustBeWhole(site.name, 'rank', rank)
      const all = Object.entries(shapes(site.weight!.shape, rank, options))
      const start = (name: string, shape: number[]): Tensor =>
        zero.includes(name) ? zeros(shape) : kaiming(rng.fork(name), shape)
      return { state: Object.fromEntries(all.map(([name, shape]) => [name, start(name, shape)])) }
    },
    weight: (base, state, ctx) => {
      const delta = scale(at(ctx.site).factor, kron(part(state, 'c'), part(state, 'd')))
      return sum(base, lycorisDropped(ctx, options, rankDropoutScale, delta))
    },
  }
}
