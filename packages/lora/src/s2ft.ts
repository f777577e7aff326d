import type { Adapter, Network, Site, Tensor1D, Tensor2D, Weight } from '@weftjs/spec'
import {
  gather,
  rng as newRng,
  oneHot,
  sampleOf,
  type Tensor,
  tensor1d,
  toFloat,
  transpose,
  zeros,
} from '@weftjs/tensor'
import { lowRank, slices, sum } from '@weftjs/weight'
import { mustBeShare } from './shared/sparse.ts'

export interface S2ftOptions {
  /** share of the heads of all layers together, key-value heads with their queries */
  readonly heads?: number
  /** share of the hidden units of all MLPs together */
  readonly channels?: number
  /** of the draw, so that permuting and attaching choose the same */
  readonly seed?: number
  /** the network was permuted by `s2ftPermuted` with these options: the units stand first, and a dense slice trains */
  readonly front?: boolean
}
export interface S2ftState extends Record<string, Tensor> {
  /** V: columns [out, c] of a matrix that reads the units (o, down), rows [c, in] of one that makes them (v, up, gate) */
  v: Tensor2D
  /** which columns or rows they are [c] int32, frozen; none in front */
  at?: Tensor1D
}

/** the units that a matrix makes (axis 0) or reads (1): their group, how many, and how wide each is here */
interface Units {
  readonly axis: 0 | 1
  readonly group: string
  readonly count: number
  readonly width: number
}
const GROUP = /^(vo|mlp)\.\d+$/
const unitsOf = ({ name, axes, weight, block }: Site): Units => {
  const axis = GROUP.test(axes?.[0] ?? '') ? 0 : 1
  const group = axes?.[axis]
  if (!weight || !block || !group || !GROUP.test(group))
    throw new Error(
      `${name}: neither makes nor reads whole heads or hidden units; narrow "at" to v, o, gate, up and down`,
    )
  const size = weight.shape[axis]
  const count = group.startsWith('vo') ? block.kvHeads : size
  return { axis, group, count, width: size / count }
}

/** Units by group (`vo.0`, `mlp.3`), drawn of all layers together. @throws Error where the shares come to no unit */
export const s2ftSelection = (
  sites: readonly Site[],
  options: S2ftOptions = {},
): Readonly<Record<string, number[]>> => {
  const { heads = 0.052, channels = 0.02, seed = 0 } = options
  const groups = new Map(sites.map(unitsOf).map(({ group, count }) => [group, count]))
  const found: Record<string, number[]> = {}
  for (const [kind, share] of [
    ['vo', heads],
    ['mlp', channels],
  ] as const) {
    const pool = [...groups]
      .filter(([g]) => g.startsWith(kind))
      .flatMap(([g, n]) => Array.from({ length: n }, (_, i) => [g, i] as const))
    if (!pool.length || !share) continue
    for (const i of sampleOf(newRng(seed).fork(kind), pool.length, Math.round(share * pool.length))) {
      const [group, unit] = pool[i]!
      found[group] = [...(found[group] ?? []), unit]
    }
  }
  if (!Object.keys(found).length)
    throw new Error(
      `s2ft: shares of ${heads} heads and ${channels} channels come to no unit at ${sites.length} sites; raise them`,
    )
  return found
}
/** rows or columns of a matrix that belong to these units */
const expand = (units: readonly number[], width: number): number[] =>
  units.flatMap((u) => Array.from({ length: width }, (_, i) => u * width + i))

/**
 * numbers that train at a site, where these are all sites of the adapter: out·c of a matrix that reads c of the drawn units'
 * columns, in·c of one that makes c rows
 */
export const trainable = (site: Site, options: S2ftOptions = {}, sites: readonly Site[] = [site]): number => {
  const { axis, group, width } = unitsOf(site)
  return (s2ftSelection(sites, options)[group]?.length ?? 0) * width * site.weight!.shape[axis ? 0 : 1]
}

/** W with V added to rows or columns of whole heads and hidden units; the rest is frozen  —  Yang et al., arXiv:2412.06289 */
export const s2ft = (options: S2ftOptions = {}): Adapter<S2ftState> => {
  const { heads = 0.052, channels = 0.02, front = false } = options
  if (heads) mustBeShare('s2ft: heads', heads)
  if (channels) mustBeShare('s2ft: channels', channels)
  return {
    name: 's2ft',
    options: { ...options },
    init: (site, { sites, once }) => {
      const { axis, group, width } = unitsOf(site)
      const units = once('selection', () => s2ftSelection(sites, options))[group]
      if (!units) return undefined
      const places = expand(units, width)
      const [out, input] = site.weight!.shape
      const c = places.length
      const v = zeros(axis ? [out, c] : [c, input]) as Tensor2D
      if (front) return { state: { v } }
      return { state: { v, at: tensor1d(places, 'int32') }, trains: ['v'] }
    },
    weight: (base, state, { site }) => {
      if (!state.at) return sum(base, slices(base.shape, unitsOf(site).axis ? 'columns' : 'rows', 0, state.v))
      const { b, a } = s2ftToLora(site, state)
      return sum(base, lowRank(b, a))
    },
  }
}

/** what trains as LoRA's B [out, c] and A [c, in] with α = r = c, for the network as it was: one of them picks places */
export const s2ftToLora = (site: Site, { v, at }: S2ftState): { b: Tensor2D; a: Tensor2D } => {
  if (!at)
    throw new Error(`${site.name}: a slice in front says not where its units were; attach without "front", with its v`)
  const { axis } = unitsOf(site)
  const picked = toFloat(oneHot(at, site.weight!.shape[axis])) as Tensor2D // [c, in] or [c, out]
  return axis ? { b: v, a: picked } : { b: transpose(picked) as Tensor2D, a: v }
}

/**
 * The same network with the drawn heads and hidden units in front, wherever they are made or read: q, k, v and o by whole
 * key-value heads with their queries, gate, up and down, and biases. `back` undoes it. Dense formats only.
 */
export const s2ftPermuted = <N extends Network<any>>(
  network: N,
  sites: readonly Site[],
  options: S2ftOptions = {},
  back = false,
): N => {
  const chosen = s2ftSelection(
    sites.filter((s) => s.axes?.some((a) => GROUP.test(a))),
    options,
  )
  const weights: Record<string, Weight> = { ...network.weights }
  const vectors: Record<string, Tensor> = { ...network.vectors }
  for (const { name, axes, weight, block } of sites) {
    if (!weight || !block || !axes) continue
    if (axes[0].startsWith('qkv'))
      throw new Error(`${name}: q, k and v are one matrix here; split them before permuting`)
    for (const axis of [0, 1] as const) {
      const units = chosen[axes[axis].replace(/^qk\./, 'vo.')]
      if (!units) continue
      const size = weight.shape[axis]
      const count = axes[axis].startsWith('mlp') ? size : block.kvHeads
      const rest = Array.from({ length: count }, (_, i) => i).filter((i) => !units.includes(i))
      const order = expand([...units, ...rest], size / count)
      const index = tensor1d(back ? inverse(order) : order, 'int32')
      weights[name] = weights[name]!.like(gather(weights[name]!.dense(), index, axis) as Tensor2D)
      const bias = vectors[`${name}.bias`]
      if (axis === 0 && bias) vectors[`${name}.bias`] = gather(bias, index)
    }
  }
  return { ...network, weights, vectors }
}
const inverse = (order: readonly number[]): number[] => {
  const back = [...order]
  order.forEach((from, to) => {
    back[from] = to
  })
  return back
}
