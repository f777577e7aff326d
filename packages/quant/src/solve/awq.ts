import type { Codec, Network, Seen, Tensor, Tensor2D } from '@weftjs/spec'
import {
  abs,
  add,
  addN,
  concat,
  dispose,
  div,
  keep,
  matMul,
  max,
  maximum,
  mean,
  min,
  mul,
  ones,
  orAtOnce,
  pow,
  reshape,
  slice,
  sqrt,
  stack,
  sub,
  sum,
  tidy,
} from '@weftjs/tensor'
import { matchNames } from '@weftjs/weight'
import { type AwqOptions, awq } from '../awq.ts'
import type { CodecFor, QuantizeOptions, See, Which } from '../quantize.ts'
import { foldingOf, forCopies, perHead } from './awq-fold.ts'
import { architectureOf, type Place, placesOf } from './awq-places.ts'

export interface AwqScaleOptions extends Pick<QuantizeOptions, 'at' | 'skip'> {
  /** what the scales are to be good for; `awq()` by default, and any other that rounds in groups will do */
  readonly codec?: Codec<any>
  /** exponents 0, 1/n ... 1 − 1/n are tried */
  readonly grid?: number
  /** divide by the mean size of the weights too, to the power of 1 − exponent */
  readonly duo?: boolean
  readonly onProgress?: (done: { readonly block: number; readonly of: number }) => void
}
export interface AwqScaled {
  /** matrices whose input is scaled */
  readonly names: readonly string[]
  /** the norm or the matrix that is divided by the scale */
  readonly into: string
  /** E‖ΔW·x‖² of all of them, quantized as they are, and scaled */
  readonly plain: number
  readonly loss: number
  /** the exponent; absent where no scale was better than none */
  readonly ratio?: number
}
export interface AwqResult<N> {
  /** gives what the network gave, to rounding: quantize it */
  readonly network: N
  readonly scaled: readonly AwqScaled[]
  /** matrices whose input cannot be scaled, and why */
  readonly left: readonly { readonly names: readonly string[]; readonly why: string }[]
}

const test = (which: Which): ((name: string) => boolean) => (typeof which === 'function' ? which : matchNames(which))

/** E‖ΔW·x‖² = tr(ΔW·M·ΔWᵀ), M = E[x·xᵀ] [in, in] */
export const outputError = (delta: Tensor, moment: Tensor): Tensor => sum(mul(matMul(delta, moment), delta))

/** mean over all rows of |w|/max|group of w|, of each column */
const sizes = (matrices: readonly Tensor2D[], group: number): Tensor => {
  const all = matrices.length === 1 ? matrices[0]! : (concat([...matrices], 0) as Tensor2D) // [Σ out, in]
  const [rows, width] = all.shape
  const x = abs(reshape(all, [-1, width % group ? width : group]))
  return mean(reshape(div(x, add(max(x, 1, true), 1e-6)), [rows, width]), 0) // [in]
}

/** x^ratio, over w^(1 − ratio) where duo, its largest and smallest at equal distance from 1 */
const scaleOf = (x: Tensor, w: Tensor, ratio: number, duo: boolean): Tensor => {
  const raw = duo ? div(pow(x, ratio), add(pow(w, 1 - ratio), 1e-4)) : pow(x, ratio)
  const s = maximum(raw, 1e-4)
  return div(s, sqrt(mul(max(s), min(s))))
}

/** the best scale of one place, [in of the fold], kept; undefined where none is better than no scale */
const search = async (
  place: Place,
  matrices: readonly Tensor2D[],
  seen: Seen,
  { codec, grid, duo }: Required<Pick<AwqScaleOptions, 'codec' | 'grid' | 'duo'>>,
): Promise<{ scale?: Tensor; ratio?: number; plain: number; loss: number }> => {
  const through = (w: Tensor2D): Tensor => codec.decode(codec.encode(w), w.shape)
  const group = Number(codec.options?.['group'] ?? 0)
  const scales = (): Tensor[] => {
    const x = perHead(seen.get('magnitude'), place)
    const w = perHead(sizes(matrices, group > 0 ? group : matrices[0]!.shape[1]), place)
    return [ones(x.shape), ...Array.from({ length: grid }, (_, i) => scaleOf(x, w, i / grid, duo))]
  }
  const candidates = tidy(() => stack(scales(), 0)) // [1 + grid, in]
  const at = (i: number): Tensor => reshape(slice(candidates, [i, 0], [1, -1]), [-1])
  const losses: number[] = []
  for (let i = 0; i <= grid; i++) {
    const lossOf = (): Tensor =>
      tidy(() => {
        const s = forCopies(at(i), place)
        return addN(
          matrices.map((w) => outputError(sub(div(through(mul(w, s) as Tensor2D), s), w), seen.get('moment'))),
        )
      })
    const loss = await orAtOnce(() => [candidates, ...matrices, seen.get('moment')], lossOf)
    losses.push((await loss.data())[0]!)
    loss.dispose()
  }
  const best = losses.reduce((b, v, i) => (v < losses[b]! ? i : b), 0)
  const found = { plain: losses[0]!, loss: losses[best]! }
  const scale = best > 0 ? tidy(() => keep(at(best))) : undefined
  candidates.dispose()
  return scale ? { ...found, scale, ratio: (best - 1) / grid } : found
}

/** The codec of each matrix after `awqScale`: clipped where that helps, but not what makes queries and keys, whose product it would shift. */
export const awqClipped =
  (options: Omit<AwqOptions, 'clip'> = {}): Extract<CodecFor, (...args: never[]) => unknown> =>
  (name) =>
    awq({ ...options, clip: !/\.attn\.(q|k|qkv)$/.test(name) })

/**
 * Scales s of what layers read, for weights that matter to lie on a finer grid: W·diag(s) is quantized, and 1/s goes into
 * the norm or the matrix before, so that the network gives what it gave  —  Lin et al., arXiv:2306.00978.
 *
 * In each block, matrices that read one input share a scale x^r/w^(1−r) (x^r without `duo`), x the mean magnitude of each
 * input and w the mean size of its weights; r is the one of `grid` with the smallest loss, or there is no scale where none
 * is better, which the paper's code does not try. The loss is the sum over the matrices of E‖ΔW·x‖² = tr(ΔW·M·ΔWᵀ), from
 * the second moment M = E[x·xᵀ] alone; the paper's code compares outputs of samples, which for a single matrix is the
 * same, and for q, k and v or gate and up is taken behind the attention or the MLP. Where several query heads share a
 * key-value head they share its scales, too (the paper's code leaves these matrices as they are).
 *
 * Clipping, the second half, happens as the matrices are packed: quantize with `awqClipped`.
 * @param see gathers 'magnitude' and 'moment' at the matrices of one block after another, all of the network as it was
 * @throws Error where nothing matches, a matrix is packed already, or the calibration did not reach one
 */
export const awqScale = async <N extends Network<object>>(
  network: N,
  see: See,
  { codec = awq(), grid = 20, duo = true, at = 'blocks.**', skip = [], onProgress }: AwqScaleOptions = {},
): Promise<AwqResult<N>> => {
  if (!Number.isInteger(grid) || grid < 1)
    throw new Error(`awqScale: grid must be a whole number of at least 1, found ${grid}`)
  const c = architectureOf(network)
  const [yes, no] = [test(at), test(skip)]
  const wanted = (name: string): boolean => yes(name) && !no(name)
  if (!Object.keys(network.weights).some(wanted))
    throw new Error(`awqScale: no weight matches ${typeof at === 'function' ? 'the predicate' : JSON.stringify(at)}`)
  const folding = foldingOf(network, c)
  const scaled: AwqScaled[] = []
  const left: { names: readonly string[]; why: string }[] = []
  try {
    for (let i = 0; i < c.layers; i++) {
      const places = placesOf(network, c, i).flatMap((place) => {
        const names = place.readers.filter(wanted)
        return names.length ? [{ place, names }] : []
      })
      for (const { place, names } of places) if (place.why !== undefined) left.push({ names, why: place.why })
      const scalable = places.filter(({ place }) => place.from)
      // of a place, one is enough: they read the same
      const asked = scalable.map(({ names }) => names[0]!)
      for (const name of scalable.flatMap(({ place }) => [
        ...place.readers,
        ...('linear' in place.from! ? [place.from.linear] : []),
      ]))
        if ((network.weights[name]!.format ?? 'dense') !== 'dense')
          throw new Error(
            `${name}: is in format '${network.weights[name]!.format}' already; scale the dense network, then quantize it`,
          )
      const seen = asked.length ? await see(network, asked, codec, ['magnitude', 'moment']) : {}
      // all are judged as they were; what a fold does to rows of another matrix moves no grid of its groups
      const found = []
      for (const { place, names } of scalable) {
        const stats = seen[names[0]!]
        if (!stats)
          throw new Error(`${names[0]}: the calibration pass did not reach it; give it texts that do, or "skip" it`)
        const matrices = tidy(() => names.map((n) => keep(network.weights[n]!.dense())))
        const parts = new Set(names.flatMap((n) => Object.values(network.weights[n]!.parts)))
        found.push({ place, names, ...(await search(place, matrices, stats, { codec, grid, duo })) })
        dispose(matrices.filter((m) => !parts.has(m)))
      }
      for (const { place, names, scale, ...rest } of found) {
        const from = place.from!
        scaled.push({ names, into: 'norm' in from ? from.norm : from.linear, ...rest })
        if (scale) folding.fold(place, scale)
        scale?.dispose()
      }
      onProgress?.({ block: i + 1, of: c.layers })
    }
  } catch (error) {
    folding.dispose()
    throw error
  }
  return { network: folding.network(), scaled, left }
}
