import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { div, fill, greater, lessEqual, max, min, minimum, mul, reshape, round, sub, tidy, where } from '@weftjs/tensor'
import { type ConstantsDtype, constants } from './kernels/constants.ts'
import { decodeGrouped, type Grouped, groupedProduct, groupedRows, packCodes } from './kernels/grouped.ts'
import { codes } from './kernels/layout.ts'
import { halfQuadratic, type Rounded, roundTo } from './solve/hqq.ts'

export interface HqqOptions {
  /** 8, 6, 5, 4, 3, 2 or 1; 1.58 has three levels, kept in 2 bits, and 6 and 5 are kept in 8, as the library keeps them */
  readonly bits?: number
  /** numbers that share a scale and a zero point; -1: a whole row (axis 1) or column (axis 0) */
  readonly group?: number
  /** 1: groups are stretches of rows; 0: the matrix as [group, n/group], each column of that a group */
  readonly axis?: 0 | 1
  /** whether the solver moves the zero points, or they stay where smallest and largest number put them */
  readonly optimize?: boolean
  /** whether the zero points begin as whole numbers; by default at 4 bits, as the library has it */
  readonly roundZero?: boolean
  /** `last`: which zero point the library keeps, to get its codes; `best` is never worse than plain rounding */
  readonly zero?: 'best' | 'last'
  /** of scales and zero points */
  readonly dtype?: ConstantsDtype
}
export interface HqqParts extends Record<string, Tensor> {
  /** codes row by row, one stream from the lowest bit up [⌈bits·n/32⌉] */
  q: Tensor
  /** W = (code − zero)·scale: float32 [n/group], or two to an int32 word */
  scale: Tensor
  zero: Tensor
}

/** bits that a code takes in memory, and its largest value */
const KINDS: Readonly<Record<string, readonly [stored: number, most: number]>> = {
  8: [8, 255],
  6: [8, 63],
  5: [8, 31],
  4: [4, 15],
  3: [3, 7],
  2: [2, 3],
  1.58: [2, 2],
  1: [1, 1],
}

/**
 * Zero points that minimize ‖W − (Q − z)·s‖₀.₇ over a group, with no data: b + 32/group bits a weight  —  Badri & Shaji, 2023 (Half-Quadratic Quantization)
 *
 * It looks at nothing but the matrix, so `like` (which folds adapters and starts LoftQ and QPiSSA) solves anew. A group
 * whose numbers lie within 1e-4 of each other has one level, as the library has it.
 */
export const hqq = ({
  bits = 4,
  group = 64,
  axis = 1,
  optimize = true,
  roundZero = bits === 4,
  zero: keeps = 'best',
  dtype = 'F16',
}: HqqOptions = {}): Codec<HqqParts> => {
  const kind = Object.hasOwn(KINDS, String(bits)) ? KINDS[String(bits)] : undefined
  if (!kind) throw new Error(`hqq: bits must be 8, 6, 5, 4, 3, 2, 1.58 or 1, found ${JSON.stringify(bits)}`)
  if (!(group === -1 || (Number.isInteger(group) && group > 0)))
    throw new Error(`hqq: group must be a whole number of at least 1, or -1 for a row, found ${JSON.stringify(group)}`)
  if (axis !== 0 && axis !== 1) throw new Error(`hqq: axis must be 0 or 1, found ${JSON.stringify(axis)}`)
  if (keeps !== 'best' && keeps !== 'last')
    throw new Error(`hqq: zero must be 'best' or 'last', found ${JSON.stringify(keeps)}`)
  const [stored, most] = kind
  const kept = constants('hqq', dtype)
  /** numbers in a group, and how many groups there are */
  const sizes = ([out, width]: readonly [number, number]): readonly [size: number, count: number] => {
    const size = group > 0 ? group : axis === 1 ? width : out
    const count = (out * width) / size
    if (!Number.isInteger(count))
      throw new Error(
        `hqq: groups of ${size} do not divide the ${out * width} numbers of [${out}, ${width}]; choose a group that does, or leave the matrix out`,
      )
    return [size, count]
  }
  const grouped = ({ q, scale, zero }: HqqParts, shape: readonly [number, number]): Grouped => {
    const [size, count] = sizes(shape)
    const columns = axis === 0
    return {
      ...{ q, bits: stored, every: columns ? count : size, columns },
      ...{ scale: kept.read(scale, count), zero: kept.read(zero, count) },
    }
  }
  return {
    name: 'hqq',
    options: { bits, group, axis, optimize, roundZero, zero: keeps, dtype },
    encode: (w) =>
      tidy(() => {
        const [size, count] = sizes(w.shape)
        const x = reshape(w, axis === 1 ? [count, size] : [size, count])
        const lowest = min(x, axis, true) // [count, 1] or [1, count]
        const range = sub(max(x, axis, true), lowest)
        // multiplies; a range of nearly nothing has one level
        const steps = where(lessEqual(range, 1e-4), fill(range.shape, 1), div(most, where(greater(range, 0), range, 1)))
        const scale = minimum(steps, 2e4)
        const start = mul(mul(lowest, -1), scale)
        const zero = roundZero ? round(start) : start
        const found: Rounded = optimize
          ? halfQuadratic(x, scale, zero, { most, axis, zero: keeps })
          : { codes: roundTo(x, scale, zero, most), zero }
        return { q: packCodes(found.codes, stored), scale: kept.part(div(1, scale)), zero: kept.part(found.zero) }
      }),
    layout: (shape) => {
      const [, count] = sizes(shape)
      return { q: codes(stored, shape[0] * shape[1]), scale: kept.layout(count), zero: kept.layout(count) }
    },
    decode: (p, shape) => tidy(() => decodeGrouped(grouped(p, shape), shape) as Tensor2D),
    matmul: (x, p, shape) => product(() => groupedProduct(x, grouped(p, shape), shape)),
    gradient: (dy, p, shape) => product(() => groupedProduct(dy, grouped(p, shape), shape, true)),
    rows: (p, shape, index) => tidy(() => groupedRows(grouped(p, shape), shape, index)),
  }
}

/** `tidy`, where there may be nothing */
const product = (run: () => Tensor | undefined): Tensor | undefined => tidy(() => run() as Tensor) as Tensor | undefined
