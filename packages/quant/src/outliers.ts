import type { Codec, Params, PartLayout, Seen, Tensor } from '@weftjs/spec'
import { largestOf, reshape, tensor, tidy } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import { affine } from './affine.ts'
import type { Decodable } from './kernels/decodable.ts'
import { columnWords, ontoDense, ontoProduct, type Sparse, sparseOf, withSparse } from './kernels/sparse.ts'

export interface OutliersOptions {
  /** the codec of all other numbers */
  readonly of?: Codec<any>
  /** of the numbers, which part is kept apart */
  readonly share?: number
  /** in place of a share: all whose measure is at least so many times its root mean square */
  readonly threshold?: number
  /** by what they are measured: |w|, or how far from w the codec would put it */
  readonly by?: 'magnitude' | 'error'
  /** what the measure is weighed with, from a calibration pass: √F of the weight, or √E[x²] of its input */
  readonly weigh?: 'fisher' | 'moment'
}
/** beside the parts of the codec within */
export interface OutliersParts extends Record<string, Tensor> {
  /** where the numbers of each row begin: int32 [out + 1] */
  starts: Tensor
  /** their columns, two to an int32 word [⌈k/2⌉] (one where in > 65536) */
  columns: Tensor
  /** what they are more than the codec says, float16, two to an int32 word [⌈k/2⌉] */
  values: Tensor
}
const OURS = ['starts', 'columns', 'values']

/** √ of what each weight counts, by its place */
const weights = (weigh: 'fisher' | 'moment', seen: Seen, width: number): ((i: number) => number) => {
  const found = seen.get(weigh).dataSync()
  if (weigh === 'fisher') return (i) => Math.sqrt(found[i]!)
  return (i) => Math.sqrt(Math.max(0, found[(i % width) * (width + 1)]!))
}

/** Any codec for W − S, S sparse and in float16: 32 bits for each of its numbers, and 32/in  —  Dettmers et al., arXiv:2306.03078, and Kim et al., arXiv:2306.07629 */
export const outliers = ({
  of = affine(),
  share,
  threshold,
  by = 'magnitude',
  weigh,
}: OutliersOptions = {}): Codec<OutliersParts> => {
  if (share !== undefined && threshold !== undefined) throw new Error('outliers: give a share or a threshold, not both')
  const part = share ?? 0.005
  if (!(part >= 0 && part <= 1)) throw new Error(`outliers: share must be between 0 and 1, found ${share}`)
  if (threshold !== undefined && !(threshold > 0))
    throw new Error(`outliers: threshold must be above 0, found ${threshold}`)
  if (by !== 'magnitude' && by !== 'error')
    throw new Error(`outliers: by must be 'magnitude' or 'error', found ${JSON.stringify(by)}`)
  if (weigh !== undefined && weigh !== 'fisher' && weigh !== 'moment')
    throw new Error(`outliers: weigh must be 'fisher' or 'moment', found ${JSON.stringify(weigh)}`)
  const taken = OURS.filter((name) => name in (of.layout?.([1, 1280]) ?? {}))
  if (taken.length)
    throw new Error(`outliers: ${of.name} has parts of the same names (${taken.join(', ')}); wrap another codec`)
  const calibrates = [...new Set([...(of.calibrates ?? []), ...(weigh ? [weigh] : [])])]
  const countOf = (n: number): number => Math.round(part * n)
  const sparse = (p: OutliersParts): Sparse => p as never
  const inner = of as Codec<any> & Partial<Decodable>
  const decoder = inner.decoder
    ? (p: OutliersParts, shape: readonly [number, number]) => withSparse(inner.decoder!(p, shape), sparse(p), shape[1])
    : undefined
  return {
    name: 'outliers',
    options: { of, ...(threshold === undefined ? { share: part } : { threshold }), by, ...(weigh && { weigh }) },
    ...(calibrates.length && { calibrates }),
    encode: (w, seen) =>
      tidy(() => {
        const [values, width] = [w.dataSync(), w.shape[1]]
        const far = by === 'error' ? of.decode(of.encode(w, seen), w.shape).dataSync() : undefined
        const counts = weigh && seen ? weights(weigh, seen, width) : undefined
        const measures = new Float32Array(values.length)
        let squares = 0
        for (let i = 0; i < values.length; i++) {
          const size = Math.abs(far ? values[i]! - far[i]! : values[i]!)
          measures[i] = counts ? size * counts(i) : size
          squares += measures[i]! ** 2
        }
        const limit = threshold === undefined ? 0 : threshold * Math.sqrt(squares / Math.max(1, values.length))
        const places =
          threshold === undefined
            ? largestOf(measures, countOf(values.length))
            : Int32Array.from(measures.keys()).filter((i) => measures[i]! >= limit && measures[i]! > 0)
        const rest = Float32Array.from(values)
        for (const i of places) rest[i] = 0
        const parts = of.encode(tensor(rest, w.shape), seen) as Params
        const back = of.decode(parts, w.shape).dataSync()
        return {
          ...parts,
          ...sparseOf(
            places,
            Array.from(places, (i) => values[i]! - back[i]!),
            w.shape,
          ),
        } as never
      }),
    ...(of.layout && {
      layout: (shape: readonly [number, number]) => {
        const k = threshold === undefined ? countOf(shape[0] * shape[1]) : null
        const ints = (n: number | null): PartLayout => ({ dtype: 'int32', shape: [n] })
        return {
          ...of.layout!(shape),
          starts: ints(shape[0] + 1),
          columns: ints(k === null ? null : columnWords(k, shape[1])),
          values: ints(k === null ? null : Math.ceil(k / 2)),
        } as never
      },
    }),
    decode: (p, shape) => tidy(() => reshape(ontoDense(of.decode(p, shape), sparse(p), shape), [...shape])),
    matmul: (x, p, shape) =>
      tidy(() => {
        // added to rows as they are decoded; a GPU, which would look each number up, adds x·Sᵀ
        const added = decoder?.(p, shape)
        const y = added && decodedProduct(x, shape, { heap: added.heap, shader: () => undefined })
        if (y) return y
        const first = of.matmul?.(x, p, shape)
        return (first && reshape(ontoProduct(first, x, sparse(p), shape), first.shape)) as Tensor
      }),
    ...(decoder && { gradient: (dy, p, shape) => decodedProduct(dy, shape, decoder(p, shape), true) }),
    rows: (p, shape, index) =>
      tidy(() => {
        const flat = reshape(index, [-1])
        const base = of.rows?.(p, shape, flat)
        if (!base) throw new Error(`outliers: ${of.name} looks no rows up; wrap another codec`)
        return reshape(ontoDense(base, sparse(p), shape, flat), [...index.shape, shape[1]])
      }),
  }
}
