import type { Rng } from '@weftjs/spec'
import { rng as newRng } from '@weftjs/tensor'
import { type Matrix, multiply, scaleColumns } from '@weftjs/tensor/linalg'
import { compress, compressDense } from './compress.ts'
import { type Delta, stacked } from './factors.ts'

/** the types of PEFT's add_weighted_adapter */
export const combinations: readonly Combination[] = [
  'svd',
  'linear',
  'cat',
  'ties',
  'ties_svd',
  'dare_ties',
  'dare_linear',
  'dare_ties_svd',
  'dare_linear_svd',
  'magnitude_prune',
  'magnitude_prune_svd',
]
export type Combination =
  | 'svd'
  | 'linear'
  | 'cat'
  | 'ties'
  | 'ties_svd'
  | 'dare_ties'
  | 'dare_linear'
  | 'dare_ties_svd'
  | 'dare_linear_svd'
  | 'magnitude_prune'
  | 'magnitude_prune_svd'

export interface CombineOptions {
  /** one for each adapter; a negative one takes its effect away. 1 each by default */
  readonly weights?: readonly number[]
  /** `svd` by default: the sum itself, brought to a rank */
  readonly type?: Combination
  /** of the types that end in svd; the largest among the adapters by default */
  readonly rank?: number
  /** share of the entries that ties, dare and magnitude_prune keep */
  readonly density?: number
  /** how ties chooses a sign: by the sum of the values, or by their number */
  readonly sign?: 'total' | 'frequency'
  /** of the types that end in svd: factors are cut at this quantile of their entries */
  readonly clamp?: number
  /** of the types that drop entries by chance */
  readonly rng?: Rng
}

type Values = Float64Array

/** the ⌊density·n⌋ entries of the largest size */
const largest = (x: Values, density: number): Values => {
  const k = Math.floor(density * x.length)
  const order = Array.from(x.keys()).sort((i, j) => Math.abs(x[j]!) - Math.abs(x[i]!) || i - j)
  const kept = new Float64Array(x.length)
  for (const i of order.slice(0, k)) kept[i] = x[i]!
  return kept
}
/** each entry with chance `density`, and 1/density times as large */
const atRandom = (x: Values, density: number, rng: Rng): Values => {
  const u = rng.numbers(x.length)
  return x.map((v, i) => (u[i]! < density ? v / density : 0))
}
/** Σ wᵢ·xᵢ */
const weighted = (xs: readonly Values[], weights: readonly number[]): Values =>
  xs[0]!.map((_, j) => xs.reduce((n, x, i) => n + weights[i]! * x[j]!, 0))
/** the mean of wᵢ·xᵢ over those whose sign is that of most, entry by entry */
const elected = (xs: readonly Values[], weights: readonly number[], sign: 'total' | 'frequency'): Values =>
  xs[0]!.map((_, j) => {
    const vote = xs.reduce((n, x) => n + (sign === 'total' ? x[j]! : Math.sign(x[j]!)), 0)
    const most = vote >= 0 ? 1 : -1
    let [sum, count] = [0, 0]
    for (const [i, x] of xs.entries()) {
      if (Math.sign(x[j]!) !== most) continue
      sum += weights[i]! * x[j]!
      count++
    }
    return sum / Math.max(count, 1)
  })

/** ±quantile q of all entries, between neighbours by interpolation */
const quantile = (parts: readonly Values[], q: number): number => {
  const all = Float64Array.from(parts.flatMap((p) => [...p])).sort()
  const at = q * (all.length - 1)
  const low = Math.floor(at)
  return all[low]! + (at - low) * ((all[low + 1] ?? all[low]!) - all[low]!)
}

/** one task's tensor and all others' become one */
type Mix = (xs: readonly Values[], weights: readonly number[], key: string) => Values

const mixOf = (type: Combination, { density, sign = 'total', rng = newRng(0) }: CombineOptions): Mix => {
  const [kind] = type.replace(/_svd$/, '').split(/(?<=^dare)_/)
  if (type === 'linear' || type === 'svd') return weighted
  if (!(density !== undefined && density >= 0 && Number.isFinite(density)))
    throw new Error(`combine: '${type}' keeps a share of the entries; give a density of at least 0, found ${density}`)
  const pruned = (xs: readonly Values[], key: string): readonly Values[] =>
    density >= 1
      ? xs
      : xs.map((x, i) => (kind === 'dare' ? atRandom(x, density, rng.fork(`${key}.${i}`)) : largest(x, density)))
  return type.includes('ties')
    ? (xs, weights, key) => elected(pruned(xs, key), weights, sign)
    : (xs, weights, key) => weighted(pruned(xs, key), weights)
}

/**
 * Several LoRAs as one, by the rules of PEFT's add_weighted_adapter. `svd` and `cat` are exact before the rank is cut; the
 * others mix factors with factors (cross terms and all) or, with `_svd`, whole matrices. One alone is always `linear`.
 * @throws Error that names the site whose ranks differ, or the option that is off
 */
export const combine = (adapters: readonly (readonly Delta[])[], options: CombineOptions = {}): readonly Delta[] => {
  const { weights = adapters.map(() => 1), rank, clamp } = options
  const type = adapters.length === 1 ? 'linear' : (options.type ?? 'svd')
  if (!adapters.length) throw new Error('combine: give at least one adapter')
  if (!(combinations as readonly string[]).includes(type))
    throw new Error(`combine: there is no type '${type}'; there are ${combinations.join(', ')}`)
  if (weights.length !== adapters.length || weights.some((w) => !Number.isFinite(w)))
    throw new Error(`combine: ${adapters.length} adapters need as many weights, found ${JSON.stringify(weights)}`)
  if (rank !== undefined && !(Number.isInteger(rank) && rank >= 1))
    throw new Error(`combine: rank must be a whole number of at least 1, found ${rank}`)
  if (clamp !== undefined && !(clamp > 0 && clamp <= 1))
    throw new Error(`combine: clamp must be a quantile in (0, 1], found ${clamp}`)
  const names = [...new Set(adapters.flatMap((deltas) => deltas.map((d) => d.site.name)))]
  const most = rank ?? Math.max(...adapters.flat().map((d) => d.a.rows))
  const mix = type === 'cat' ? undefined : mixOf(type, options)
  const clamped = (d: Delta): Delta => {
    if (clamp === undefined) return d
    const limit = quantile([d.a.data, d.b.data], clamp)
    const cut = (m: Matrix): Matrix => ({ ...m, data: m.data.map((v) => Math.max(-limit, Math.min(limit, v))) })
    return { ...d, a: cut(d.a), b: cut(d.b) }
  }
  return names.map((name): Delta => {
    const here = adapters.flatMap((deltas, i) =>
      deltas.filter((d) => d.site.name === name).map((d) => ({ ...d, weight: weights[i]! })),
    )
    const own = here.map((d) => d.weight)
    const whole = stacked(here, own) // says where shapes differ
    const { site } = whole
    if (!mix) return whole
    if (type === 'svd') return clamped(compress([whole], { rank: most })[0]!)
    if (type.endsWith('_svd')) {
      const dense = here.map(
        ({ b, a, scale }) => multiply(scaleColumns(b, new Float64Array(b.cols).fill(scale)), a).data,
      )
      const w = { rows: whole.b.rows, cols: whole.a.cols, data: mix(dense, own, name) } // [out, in]
      const k = Math.min(most, w.rows, w.cols)
      return clamped({ site, ...compressDense(w, { rank: k }, name, newRng(0).fork(name)), scale: 1 })
    }
    const odd = here.find((d) => d.a.rows !== here[0]!.a.rows)
    if (odd)
      throw new Error(
        `${name}: ranks ${here[0]!.a.rows} and ${odd.a.rows} differ, and '${type}' mixes factors entry by entry; choose cat or svd`,
      )
    // √|w·s| on both factors; the sign on the one that PEFT calls A
    const roots = here.map((d) => Math.sqrt(Math.abs(d.weight * d.scale)))
    const signed = here.map((d, i) => roots[i]! * (d.weight * d.scale >= 0 ? 1 : -1))
    const [onA, onB] = site.kind === 'embed' ? [roots, signed] : [signed, roots]
    const first = here[0]!
    const a = {
      ...first.a,
      data: mix(
        here.map((d) => d.a.data),
        onA,
        `${name}.a`,
      ),
    }
    const b = {
      ...first.b,
      data: mix(
        here.map((d) => d.b.data),
        onB,
        `${name}.b`,
      ),
    }
    return { site, a, b, scale: 1 }
  })
}
