import type { Adapter, Site } from '@weftjs/spec'
import { rng as newRng, sampleOf } from '@weftjs/tensor'
import { mustBeShare, type SparseState, sizeOf, sparseStart, withSparse } from './shared/sparse.ts'
import { mustBeWhole } from './shared/start.ts'

export interface ApetOptions {
  /** N, how many numbers train in all; else `share` of all */
  readonly count?: number
  readonly share?: number
  /** of the draw, so that the places are known from the options */
  readonly seed?: number
}
export type ApetState = SparseState

/** a uniform draw of n of all the numbers of the sites: places of each site's own, in order */
const draw = (sites: readonly Site[], { count, share = 0.01, seed = 0 }: ApetOptions): Map<string, number[]> => {
  const total = sites.reduce((n, s) => n + sizeOf(s), 0)
  const n = count ?? Math.max(1, Math.round(share * total))
  if (n > total) throw new Error(`apet: count ${n} exceeds the ${total} numbers at its sites; lower it or widen "at"`)
  const all = sampleOf(newRng(seed).fork('apet'), total, n)
  const found = new Map<string, number[]>()
  let [i, before] = [0, 0]
  for (const site of sites) {
    const own: number[] = []
    found.set(site.name, own)
    for (; i < n && all[i]! < before + sizeOf(site); i++) own.push(all[i]! - before)
    before += sizeOf(site)
  }
  return found
}

/** numbers that train at a site, where these are all sites of the adapter: as many as the draw puts there, N in all */
export const trainable = (site: Site, options: ApetOptions = {}, sites: readonly Site[] = [site]): number =>
  draw(sites, options).get(site.name)?.length ?? 0

/** W + S, S zero but for numbers at places drawn from all matrices together  —  Su et al., arXiv:2306.02320 */
export const apet = (options: ApetOptions = {}): Adapter<ApetState> => {
  if (options.share !== undefined) mustBeShare('apet: share', options.share)
  if (options.count !== undefined) mustBeWhole('apet', 'count', options.count)
  return {
    name: 'apet',
    options: { ...options },
    init: (site, { sites, once }) => {
      const own = once('draw', () => draw(sites, options)).get(site.name)!
      return own.length ? sparseStart(site, own) : undefined
    },
    weight: withSparse,
  }
}
