import type { Network, Params, Rng, Site, Tensor2D, Weight } from '@weftjs/spec'
import { rng as newRng, sub, tidy } from '@weftjs/tensor'
import { type Matrix, toMatrixAsync } from '@weftjs/tensor/linalg'
import { under } from '../shared/under.ts'
import { checkSize, compress, compressDense, type Size } from './compress.ts'
import { type Chosen, chosenBySite, contextAt, type Delta, type Standing, scaleOf } from './factors.ts'

export interface ToLoraOptions extends Size, Chosen {
  /** of random projections, for large matrices */
  readonly rng?: Rng
  /** called before each site */
  onProgress?(at: { readonly site: string; readonly sites: number; readonly of: number }): void
}

const difference = async (now: () => Tensor2D, before: Weight): Promise<Matrix> => {
  const delta = tidy(() => sub(now(), before.dense())) as Tensor2D // [out, in]
  try {
    return await toMatrixAsync(delta)
  } finally {
    delta.dispose()
  }
}

/** does an adapter make another bias, or a new one, at its site? */
const movesBias = (
  tuned: Standing,
  { adapter, site, prefix, name }: Standing['bound'][number],
  params: Params,
): boolean => {
  if (!adapter.vector) return false
  const own = site.vectors?.bias
  let moves = false
  tidy(() => {
    const shared = under(`${name}.shared.`, tuned.constants, params)
    moves = adapter.vector!('bias', own, under(`${prefix}.`, tuned.constants, params), contextAt(site, shared)) !== own
  })
  return moves
}

/**
 * Any adapters that change weights, as a LoRA of a rank, or of the smallest rank that holds a share of the variance at each
 * site. What adds low-rank products is taken as it is; anything else by the SVD of what it changes.
 * @throws Error that names the site of an adapter that acts around a module or on its vectors
 */
export const toLora = async (
  tuned: Standing,
  { params = tuned.params, name, rng = newRng(0), onProgress, ...size }: ToLoraOptions,
): Promise<readonly Delta[]> => {
  checkSize(size)
  const chosen = [...chosenBySite(tuned, name)]
  for (const [site, list] of chosen)
    for (const b of list) {
      const { adapter } = b
      if (!adapter.weight || adapter.around || adapter.attend)
        throw new Error(
          `${site.name}: '${adapter.name}' does not act on the weight alone, so no LoRA can do the same; convert only adapters that fold`,
        )
      if (movesBias(tuned, b, params))
        throw new Error(
          `${site.name}: '${adapter.name}' changes the bias here too, which no LoRA does; fold the adapter instead`,
        )
    }
  const found: Delta[] = []
  for (const [i, [site, list]] of chosen.entries()) {
    onProgress?.({ site: site.name, sites: i + 1, of: chosen.length })
    const before = site.weight!
    const states = list.map((b) => under(`${b.prefix}.`, tuned.constants, params))
    const shared = list.map((b) => under(`${b.name}.shared.`, tuned.constants, params))
    const scales = await Promise.all(list.map((b, n) => scaleOf(b, states[n]!, shared[n]!)))
    if (scales.every((s) => s !== undefined)) {
      const deltas = await Promise.all(
        states.map(
          async ({ a, b }, n): Promise<Delta> => ({
            ...{ site, scale: scales[n]! },
            ...{ a: await toMatrixAsync(a as Tensor2D), b: await toMatrixAsync(b as Tensor2D) },
          }),
        ),
      )
      found.push(...compress(deltas, size))
      continue
    }
    const start = list.find((b) => b.base)?.base ?? before
    const now = (): Tensor2D =>
      list.reduce<Weight>((w, b, n) => b.adapter.weight!(w, states[n]!, contextAt(site, shared[n]!)), start).dense()
    found.push({
      site,
      ...compressDense(await difference(now, before), size, site.name, rng.fork(site.name)),
      scale: 1,
    })
  }
  return found
}

export interface ExtractOptions extends Size {
  /** which places; all linear layers by default */
  at?(site: Site): boolean
  readonly rng?: Rng
  /** called before each site */
  onProgress?(at: { readonly site: string; readonly sites: number; readonly of: number }): void
}
export interface Extracted {
  readonly deltas: readonly Delta[]
  /** tensors that differ too and that no LoRA here holds: embeddings, norms, biases */
  readonly left: readonly string[]
}

/**
 * What was done to a network, as a LoRA: the SVD of the difference of two checkpoints, matrix by matrix. `sites` are those
 * of the base.
 * @throws Error where the two are not of one shape
 */
export const extractLora = async (
  base: Network<object>,
  tuned: Network<object>,
  sites: readonly Site[],
  { at = (site) => site.kind === 'linear', rng = newRng(0), onProgress, ...size }: ExtractOptions,
): Promise<Extracted> => {
  checkSize(size)
  const weights = Object.keys(base.weights)
  const missing = [...weights, ...Object.keys(base.vectors)].find((n) => !(tuned.weights[n] ?? tuned.vectors[n]))
  if (missing !== undefined)
    throw new Error(`${missing}: the second model has no such tensor; they are not of one kind`)
  const chosen = sites.filter((s) => s.weight && base.weights[s.name] && at(s))
  if (!chosen.length) throw new Error('no matrix was chosen to extract a LoRA from')
  const deltas: Delta[] = []
  const taken = new Set<string>()
  for (const [i, site] of chosen.entries()) {
    onProgress?.({ site: site.name, sites: i + 1, of: chosen.length })
    const [before, after] = [base.weights[site.name]!, tuned.weights[site.name]!]
    if (before.shape.join() !== after.shape.join())
      throw new Error(`${site.name}: is [${before.shape}] in one model and [${after.shape}] in the other`)
    const delta = await difference(() => after.dense(), before)
    taken.add(site.name)
    if (delta.data.every((v) => v === 0)) continue
    deltas.push({ site, ...compressDense(delta, size, site.name, rng.fork(site.name)), scale: 1 })
  }
  const left: string[] = []
  for (const name of weights)
    if (!taken.has(name)) {
      const delta = await difference(() => tuned.weights[name]!.dense(), base.weights[name]!)
      if (delta.data.some((v) => v !== 0)) left.push(name)
    }
  for (const [name, t] of Object.entries(base.vectors)) {
    const other = tuned.vectors[name]!
    const [p, q] = await Promise.all([t.data(), other.data()])
    if (p.length !== q.length || p.some((v, j) => v !== q[j])) left.push(name)
  }
  return { deltas, left }
}
