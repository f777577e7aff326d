import type { Adapter, Params, RunContext, Site, Tensor, Weight } from '@weftjs/spec'
import { clone, rng, sub, tidy } from '@weftjs/tensor'
import { fromMatrix, type Matrix, matrix, scaleColumns, toMatrixAsync } from '@weftjs/tensor/linalg'
import { lowRank } from '@weftjs/weight'
import { type LoraState, lora } from '../lora.ts'
import type { Attached, AttachedAt } from '../peft/load.ts'
import { exactly } from '../shared/pattern.ts'
import { under } from '../shared/under.ts'

/** ΔW = scale·B·A at a site, in plain numbers: b [out, r], a [r, in]. */
export interface Delta {
  readonly site: Site
  readonly b: Matrix
  readonly a: Matrix
  readonly scale: number
}

/** What `attach` makes, with the weights that adapters put in place of frozen ones. */
export interface Standing extends Attached {
  readonly bound: readonly (AttachedAt & { readonly base?: Weight | undefined })[]
}
export interface Chosen {
  /** values of the tensors; those that adapters start with by default */
  readonly params?: Params
  /** the name of one attachment; all of them together by default */
  readonly name?: string
}

export const contextAt = (site: Site, shared: Params): RunContext => ({
  ...{ site, shared, training: false, inputs: {}, inner: [], scratch: new Map() },
  penalty: () => {},
})

/** the attachments that are meant, by site. @throws Error for a name that is not there */
export const chosenBySite = (tuned: Standing, name: string | undefined): Map<Site, Standing['bound'][number][]> => {
  const names = [...new Set(tuned.bound.map((b) => b.name))]
  if (!names.length) throw new Error('there is no adapter here; attach one first')
  if (name !== undefined && !names.includes(name))
    throw new Error(`there is no adapter '${name}' here; there are ${names.join(', ')}`)
  const bySite = new Map<Site, Standing['bound'][number][]>()
  for (const b of tuned.bound)
    if (name === undefined || b.name === name) bySite.set(b.site, [...(bySite.get(b.site) ?? []), b])
  return bySite
}

/**
 * The factor s of an adapter that adds s·B·A and does nothing else, found by what it does to another base and other
 * factors; undefined for every other adapter.
 */
export const scaleOf = async (
  { site, adapter, base }: Standing['bound'][number],
  { a, b, ...rest }: Params,
  shared: Params = {},
): Promise<number | undefined> => {
  if (base || !adapter.weight || adapter.around || adapter.attend || adapter.vector || Object.keys(rest).length) return
  if (a?.rank !== 2 || b?.rank !== 2 || a.shape[0] !== b.shape[1]) return
  const [out, input] = [b.shape[0]!, a.shape[1]!]
  const other = rng(1)
  const tensors = tidy(() => {
    const normal = (key: string, shape: number[]): never => other.fork(key).normal(shape) as never
    const state = { a: normal('a', a.shape), b: normal('b', b.shape) }
    const ground = lowRank(normal('out', [out, 1]), normal('in', [1, input]))
    const adapted = adapter.weight!(ground, state, contextAt(site, shared))
    const x: Tensor = normal('x', [1, input])
    return [sub(adapted.apply(x), ground.apply(x)), clone(lowRank(state.b, state.a).apply(x))] // [1, out]
  })
  const [y, z] = (await Promise.all(tensors.map((t) => t.data()))) as [Float32Array, Float32Array]
  for (const t of tensors) t.dispose()
  const dot = (p: Float32Array, q: Float32Array): number => p.reduce((s, v, i) => s + v * q[i]!, 0)
  const s = dot(y, z) / dot(z, z)
  const size = Math.sqrt(dot(y, y) + dot(z, z))
  if (y.some((v, i) => Math.abs(v - s * z[i]!) > 1e-4 * size)) return
  return Number(s.toPrecision(6)) // α/r is rarely longer, and the probe is in single precision
}

/**
 * What LoRAs add, as factors: exact, and never multiplied out.
 * @throws Error that names a site where an adapter does more than to add s·B·A; `toLora` converts those
 */
export const deltasOf = async (
  tuned: Standing,
  { params = tuned.params, name }: Chosen = {},
): Promise<readonly Delta[]> => {
  const found: Delta[] = []
  for (const list of chosenBySite(tuned, name).values())
    for (const bound of list) {
      const state = under(`${bound.prefix}.`, tuned.constants, params)
      const scale = await scaleOf(bound, state, under(`${bound.name}.shared.`, tuned.constants, params))
      if (scale === undefined)
        throw new Error(
          `${bound.site.name}: '${bound.adapter.name}' is more than a product of two factors that is added; convert it with toLora first`,
        )
      const [b, a] = [await toMatrixAsync(state['b'] as never), await toMatrixAsync(state['a'] as never)]
      found.push({ site: bound.site, b, a, scale })
    }
  return found
}

/** Factors side by side: Σ wᵢ·sᵢ·Bᵢ·Aᵢ as one product, of the sum of their ranks. */
export const stacked = (deltas: readonly Delta[], weights: readonly number[] = deltas.map(() => 1)): Delta => {
  const { site } = deltas[0]!
  const rank = deltas.reduce((n, d) => n + d.a.rows, 0)
  const [out, input] = [deltas[0]!.b.rows, deltas[0]!.a.cols]
  const [b, a] = [matrix(out, rank), matrix(rank, input)]
  let at = 0
  for (const [n, d] of deltas.entries()) {
    if (d.b.rows !== out || d.a.cols !== input)
      throw new Error(
        `${site.name}: matrices [${out}, ${input}] and [${d.b.rows}, ${d.a.cols}] cannot be added; these adapters are of different models`,
      )
    const r = d.a.rows
    for (let i = 0; i < out; i++)
      for (let j = 0; j < r; j++) b.data[i * rank + at + j] = d.b.data[i * r + j]! * weights[n]! * d.scale
    a.data.set(d.a.data, at * input)
    at += r
  }
  return { site, b, a, scale: 1 }
}

/** all that is added at each site, in order */
export const bySite = (deltas: readonly Delta[]): Map<string, Delta[]> => {
  const map = new Map<string, Delta[]>()
  for (const d of deltas) map.set(d.site.name, [...(map.get(d.site.name) ?? []), d])
  return map
}

/** A LoRA that starts with given values: to attach, to add to what runs, to save. */
export interface ReadyLora {
  readonly adapter: Adapter<LoraState>
  readonly at: (site: Site) => boolean
  readonly name?: string
}

const commonest = (values: readonly number[]): number => {
  const counts = new Map<number, number>()
  for (const v of values) counts.set(v, (counts.get(v) ?? 0) + 1)
  return [...counts].reduce((a, b) => (b[1] > a[1] ? b : a))[0]
}

/**
 * Deltas as a LoRA with α = r, scales folded into B: `attach(network, [readyLora(deltas)], rng)`. Several at one site are
 * put side by side.
 */
export const readyLora = (deltas: readonly Delta[], { name }: { name?: string } = {}): ReadyLora => {
  if (!deltas.length) throw new Error('there is nothing to make a LoRA of: no site has a change')
  const found = new Map([...bySite(deltas)].map(([site, list]) => [site, list.length > 1 ? stacked(list) : list[0]!]))
  const ranks = [...found].map(([site, d]) => [site, d.a.rows] as const)
  const rank = commonest(ranks.map(([, r]) => r))
  const pattern = Object.fromEntries(ranks.flatMap(([site, r]) => (r === rank ? [] : [[exactly(site), r] as const])))
  const some = Object.keys(pattern).length > 0
  const plain = lora({ rank, alpha: rank, ...(some && { rankPattern: pattern, alphaPattern: pattern }) })
  return {
    ...(name !== undefined && { name }),
    at: (site) => found.has(site.name),
    adapter: {
      ...plain,
      init: (site) => {
        const { a, b, scale } = found.get(site.name)!
        const { shape } = site.weight!
        if (shape[0] !== b.rows || shape[1] !== a.cols)
          throw new Error(
            `${site.name}: the LoRA is for a matrix [${b.rows}, ${a.cols}], and here is [${shape}]; it belongs to another model`,
          )
        const scaled = scale === 1 ? b : scaleColumns(b, new Float64Array(b.cols).fill(scale))
        return { state: { a: fromMatrix(a), b: fromMatrix(scaled) } }
      },
    },
  }
}
