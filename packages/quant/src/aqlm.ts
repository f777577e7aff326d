import type { Codec, Seen, Tensor, Tensor2D } from '@weftjs/spec'
import { reshape, rng, tensor1d } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import { type Matrix, matrix, toMatrix } from '@weftjs/tensor/linalg'
import { type AdditiveLayout, additiveDecoder, decodeAdditive } from './kernels/additive.ts'
import { F16 } from './kernels/half.ts'
import { codes, numbers } from './kernels/layout.ts'
import { packStream } from './kernels/stream.ts'
import { solveAdditive } from './solve/aqlm.ts'

export interface AqlmOptions {
  /** vectors that add up */
  readonly codebooks?: number
  /** of a code: a code book has 2^bits vectors */
  readonly bits?: number
  /** neighbours in a row that are coded as one vector, and rows that they span */
  readonly group?: number
  readonly outGroup?: number
  /** guesses that the search for codes keeps in mind */
  readonly beam?: number
  /** turns of code books and codes, and steps of least squares in each */
  readonly rounds?: number
  readonly steps?: number
  /** look at what the layer reads; without, only W counts */
  readonly calibrate?: boolean
  /** of the points that the code books begin with */
  readonly seed?: number
}
export interface AqlmParts extends Record<string, Tensor> {
  /** codes [out/outGroup, in/group, codebooks], code k in bits [kb, (k+1)b) of the words [⌈n·b/32⌉] */
  q: Tensor
  /** code books [codebooks, 2^bits, outGroup, group] in float16, two to a word */
  books: Tensor
  /** [out/outGroup] */
  scale: Tensor
}

/** to 11 bits, as float16 holds them, at any size */
const roundScale = (v: number): number => {
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(v))) - 10)
  return v && unit ? Math.fround(Math.round(v / unit) * unit) : 0
}
const roundBook = (v: number): number => F16.from(F16.to(v))

/** H with a thousandth of its mean diagonal on it, so that what calibration never reached still counts */
const momentOf = (seen: Seen, input: number): Matrix => {
  const h = toMatrix(seen.get('moment') as Tensor2D)
  if (h.rows !== input || h.cols !== input)
    throw new Error(`aqlm: the moment is [${h.rows}, ${h.cols}], the layer reads ${input}; calibrate this layer`)
  const diagonal = Array.from({ length: input }, (_, i) => h.data[i * (input + 1)]!)
  const mean = diagonal.reduce((a, b) => a + b, 0) / input
  if (!(mean > 0) || !Number.isFinite(mean))
    throw new Error(`aqlm: the mean square of what the layer reads is ${mean}; calibrate with texts that reach it`)
  const damped = matrix(input, input, h.data.slice())
  for (let i = 0; i < input; i++) damped.data[i * (input + 1)]! += 1e-3 * mean
  return damped
}

/**
 * s·Σ C[code], vectors that add up: codebooks·bits/group bits a weight and the books  —  Egiazarian et al., arXiv:2401.06118
 *
 * Two books of 8 bits on groups of 8 take 2 bits a weight, one takes 1; the books themselves are 16 bits a number, and weigh
 * in small matrices. Where calibration has shown what the layer reads, the error in its outputs is made small, else that in W.
 */
export const aqlm = (options: AqlmOptions = {}): Codec<AqlmParts> => {
  const { codebooks = 2, bits = 8, group = 8, outGroup = 1, beam = 1, rounds = 4, steps = 10, seed = 0 } = options
  const { calibrate = true } = options
  const whole = (what: string, v: number, least: number, most: number): void => {
    if (!Number.isInteger(v) || v < least || v > most)
      throw new Error(`aqlm: ${what} must be a whole number from ${least} to ${most}, found ${v}`)
  }
  whole('codebooks', codebooks, 1, 16)
  whole('bits', bits, 1, 16)
  whole('group', group, 1, 1024)
  whole('outGroup', outGroup, 1, 1024)
  whole('beam', beam, 1, 64)
  whole('rounds', rounds, 0, 100)
  whole('steps', steps, 0, 1000)
  whole('seed', seed, 0, 2 ** 32 - 1)
  const d = group * outGroup
  const fits = ([out, input]: readonly [number, number]): void => {
    if (input % group)
      throw new Error(`aqlm: rows of ${input} are not divided into groups of ${group}; choose another group`)
    if (out % outGroup)
      throw new Error(`aqlm: ${out} rows are not divided into groups of ${outGroup}; choose another outGroup`)
  }
  const at = ([, width]: readonly [number, number]): AdditiveLayout => ({
    codebooks,
    bits,
    group,
    tall: outGroup,
    width,
  })
  const of = ({ q, books, scale }: AqlmParts): readonly [Tensor, Tensor, Tensor] => [q, books, scale]
  return {
    name: 'aqlm',
    options: { codebooks, bits, group, outGroup, beam, rounds, steps, calibrate, seed },
    ...(calibrate && { calibrates: ['moment'] }),
    encode: (w, seen) => {
      fits(w.shape)
      const [out, input] = w.shape
      const draws = Array.from({ length: codebooks }, (_, c) =>
        rng(seed)
          .fork(c)
          .numbers(2 ** bits),
      )
      const shape = { out, input, codebooks, bits, group, outGroup }
      const moment = seen && momentOf(seen, input)
      const found = solveAdditive(toMatrix(w).data, shape, {
        moment,
        beam,
        rounds,
        steps,
        draws,
        roundBook,
        roundScale,
      })
      return partsOf(found, bits)
    },
    layout: (shape) => {
      fits(shape)
      return {
        q: codes(bits, ((shape[0] * shape[1]) / d) * codebooks),
        books: codes(16, codebooks * 2 ** bits * d),
        scale: numbers(shape[0] / outGroup),
      }
    },
    decode: (p, shape) => reshape(decodeAdditive(of(p), at(shape), shape[0] * shape[1]), [...shape]),
    matmul: (x, p, shape) => decodedProduct(x, shape, additiveDecoder(of(p), at(shape))),
    gradient: (dy, p, shape) => decodedProduct(dy, shape, additiveDecoder(of(p), at(shape)), true),
    rows: (p, shape, index) =>
      reshape(decodeAdditive(of(p), at(shape), shape[0] * shape[1], reshape(index, [-1])), [...index.shape, shape[1]]),
  }
}

/** codes, books and scales as the parts of the codec */
export const partsOf = (
  found: { codes: ArrayLike<number>; books: ArrayLike<number>; scales: ArrayLike<number> },
  bits: number,
): AqlmParts => {
  const halves = new Uint16Array(2 * Math.ceil(found.books.length / 2))
  for (let i = 0; i < found.books.length; i++) halves[i] = F16.to(found.books[i]!)
  return {
    q: tensor1d(packStream(found.codes, bits), 'int32'),
    books: tensor1d(new Int32Array(halves.buffer), 'int32'),
    scale: tensor1d(Float32Array.from(found.scales)),
  }
}
