import type { Adapter, Revisable, ReviseContext, Revision, Site, Tensor1D } from '@weftjs/spec'
import { largestOf, readsAtOnce, sampleOf, type Tensor, zeros } from '@weftjs/tensor'
import { accumulated, best, chosen, type RegrownState } from './shared/regrow.ts'
import { flatOf, mustBeShare, shareOf, sizeOf, sparseStart, withSparse } from './shared/sparse.ts'
import { mustBeWhole } from './shared/start.ts'
import { watched } from './shared/watched.ts'

export interface SpielOptions {
  /** share of each matrix that trains, rounded up */
  readonly density?: number
  /** AG grows where the gradient is large, MA where the second moments of a number's row and column are */
  readonly growth?: 'ag' | 'ma'
  /** S, steps from one choice to the next; it follows steps jS + 1 to jS + `window`, over which AG adds up gradients */
  readonly every?: number
  readonly window?: number
  /** p₀: the first choice changes all, the later ones p₀·(1 − t/T) of the numbers */
  readonly drop?: number
  /** of the optimizer, for the moments of numbers that are new */
  readonly b1?: number
  readonly b2?: number
}
/** with the largest second moments of rows and columns, for MA */
export type SpielState = RegrownState

/** numbers that train at a site: ⌈density·in·out⌉ */
export const trainable = (site: Site, { density = 0.01 }: SpielOptions = {}): number =>
  Math.min(site.in * site.out, Math.ceil(density * site.in * site.out))

/** what AG has added up: gradients at the k places that were steepest in the first backward pass of the window */
interface Note {
  flat: Int32Array
  sum: Float64Array
  squares: Float64Array
  passes: number
}

/**
 * W + S, S zero but in k places, the smallest of which give way to others every few steps  —  Ansell et al., arXiv:2401.16405
 *
 * The gradient of a whole matrix is made only in the steps of AG's windows, one layer's at a time. The paper's AdamW decays
 * S, not W, by 1 to 30. MA is meant for an optimizer of SM3's kind and keeps the sums that it needs itself.
 */
export const spiel = (options: SpielOptions = {}): Adapter<SpielState> => {
  const { density = 0.01, growth = 'ag', every = 20, window = 5, drop = 0.2, b1 = 0.9, b2 = 0.999 } = options
  mustBeShare('spiel: density', density)
  mustBeWhole('spiel', 'every', every)
  mustBeWhole('spiel', 'window', window)
  if (window >= every)
    throw new Error(`spiel: a window of ${window} steps must be shorter than the ${every} from one choice to the next`)
  if (!(drop >= 0 && drop <= 1)) throw new Error(`spiel: drop must be in [0, 1], found ${drop}`)
  if (growth !== 'ag' && growth !== 'ma') throw new Error(`spiel: growth must be 'ag' or 'ma', found '${growth}'`)
  /** open windows, by the places that they may change */
  const notes = new WeakMap<Tensor, Note>()
  const open = (places: Tensor): void =>
    void notes.set(places, {
      flat: new Int32Array(0),
      sum: new Float64Array(0),
      squares: new Float64Array(0),
      passes: 0,
    })
  const note = (n: Note, k: number, g: ArrayLike<number>): void => {
    if (!n.passes++) {
      n.flat = largestOf(Float32Array.from(g, Math.abs), k)
      n.sum = new Float64Array(k)
      n.squares = new Float64Array(k)
    }
    n.flat.forEach((at, j) => {
      n.sum[j]! += g[at]!
      n.squares[j]! += g[at]! ** 2
    })
  }
  const grow = (site: Revisable<SpielState>, share: number, step: number): Revision<SpielState> | undefined => {
    const { values, places, rows, columns } = site.state
    const k = values.size
    const found = notes.get(places)
    const n = Math.floor(share * k)
    if (!n || (growth === 'ag' && !found?.passes)) return undefined
    const size = Float32Array.from(values.dataSync() as Float32Array, (v) => -Math.abs(v))
    const dropped = new Set(largestOf(size, n))
    const kept = Array.from({ length: k }, (_, i) => i).filter((i) => !dropped.has(i))
    const flat = flatOf(places, site.site.weight!.shape[1])
    const fill = (grown: { flat: number; mean?: number; square?: number }[]): Revision<SpielState> => {
      // where there is too little to grow, the largest of what was dropped stays
      const have = new Set([...kept.map((i) => flat[i]!), ...grown.map((g) => g.flat)])
      const back = [...dropped].sort((a, b) => size[a]! - size[b]!)
      const more = back.filter((i) => !have.has(flat[i]!)).slice(0, k - have.size)
      return chosen(site, [...kept, ...more], grown, { b1, b2, step })
    }
    if (growth === 'ag') {
      const { flat: at, sum, squares, passes } = found!
      const taken = new Set(kept.map((i) => flat[i]!))
      const winners = best(n, at, sum.map(Math.abs), taken)
      return fill(winners.map((i) => ({ flat: at[i]!, mean: sum[i]! / passes, square: squares[i]! / passes })))
    }
    const [r, c] = [rows!.dataSync(), columns!.dataSync()]
    const width = c.length
    const scores = Float32Array.from({ length: r.length * width }, (_, i) => r[Math.floor(i / width)]! * c[i % width]!)
    for (const f of flat) scores[f] = -1
    return fill(Array.from(largestOf(scores, Math.min(n, scores.length - k)), (i) => ({ flat: i })))
  }
  return {
    name: 'spiel',
    options: { ...options },
    init: (site, { rng }) => {
      const { state, trains } = sparseStart(site, sampleOf(rng, sizeOf(site), shareOf(site, density)))
      if (growth === 'ag') open(state.places)
      const [out, input] = site.weight!.shape
      const sums = growth === 'ma' && { rows: zeros([out]) as Tensor1D, columns: zeros([input]) as Tensor1D }
      return { state: { ...state, ...sums }, trains: trains! }
    },
    weight: (base, state, { training, site }) => {
      const w = withSparse(base, state)
      const n = training ? notes.get(state.places) : undefined
      if (n && !readsAtOnce())
        throw new Error(
          `${site.name}: spiel reads gradients as they are computed, and a GPU outside of a browser is not read so; take growth 'ma' or the wasm backend`,
        )
      return n ? watched(w, (g) => note(n, state.values.size, g.dataSync())) : w
    },
    revise: (sites, { step, steps }: ReviseContext) => {
      const share = step === window ? 1 : drop * (1 - step / steps)
      const now = step % every === window % every
      return Object.fromEntries(
        Object.entries(sites).flatMap(([name, site]): [string, Revision<SpielState>][] => {
          const sums = growth === 'ma' && accumulated(site)
          const all = sums ? { ...site, state: { ...site.state, ...sums } } : site
          const grown = now ? grow(all, share, step) : undefined
          if (now) notes.delete(site.state.places)
          if (growth === 'ag' && step % every === 0 && !grown) open(site.state.places)
          if (!grown && !sums) return []
          return [[name, { ...grown, state: { ...sums, ...grown?.state } }]]
        }),
      )
    },
  }
}
