import type { Codec, PartLayout, Seen, Tensor, Tensor2D } from '@weftjs/spec'
import { div, mul, numbersNow, reshape, tensor, tensor1d, tidy } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import { affineNamed } from './affine.ts'
import { f16 } from './f16.ts'
import { absmax } from './kernels/absmax.ts'
import { orderColumns } from './kernels/columns.ts'
import { blockOf } from './kernels/group.ts'
import { F16 } from './kernels/half.ts'
import { packStream } from './kernels/stream.ts'
import { encodeUniform } from './kernels/uniform.ts'
import { rounded, type Solved, solveGptq } from './solve/gptq.ts'

export interface GptqOptions {
  readonly bits?: 2 | 3 | 4 | 8
  /** inputs that share a scale; -1: all of a row */
  readonly group?: number
  /** quantize inputs by falling E[x²]; groups are of inputs that follow in this order */
  readonly actOrder?: boolean
  /** no zero points: the middle code is 0 */
  readonly symmetric?: boolean
  /** share of the mean of E[x²] that is added to the diagonal of E[x·xᵀ]; doubled until that is positive definite */
  readonly damp?: number
  /** with `actOrder`: groups are of neighbouring inputs all the same, which decodes without a permutation */
  readonly staticGroups?: boolean
}
export interface GptqParts extends Record<string, Tensor> {
  /** codes, one stream without a gap, lowest bit first, row by row [⌈n·bits/32⌉] */
  q: Tensor
  /** of each group, row by row: numbers of float16 [out·in/group] */
  scale: Tensor
}
/** what comes with it where groups are of inputs in another order */
export interface Ordered {
  /** the input that each stored column is of, and where each input is stored: int32 [2, in] */
  readonly order: Tensor
}

/** scales as a file keeps them */
export const halved = (scale: Float32Array): Float32Array => scale.map((s) => F16.from(F16.to(s)))

/** parts of what a solver or a file says */
export const partsOf = (
  { codes, scale, zero, order }: Solved,
  { bits, symmetric, ordered }: { bits: number; symmetric: boolean; ordered: boolean },
): GptqParts => {
  const width = order?.length ?? 0
  const both = new Int32Array(2 * width)
  order?.forEach((column, j) => {
    both[j] = column
    both[width + column] = j
  })
  return {
    q: tensor1d(packStream(codes, bits), 'int32'),
    scale: tensor1d(halved(scale)),
    ...(!symmetric && { zero: tensor1d(packStream(zero, bits), 'int32') }),
    ...(ordered && { order: tensor(both, [2, width], 'int32') }),
  } as GptqParts
}

/**
 * Codes whose errors those of later inputs make good, by H = E[x·xᵀ]: bits + 32/group a weight  —  Frantar et al., arXiv:2210.17323
 *
 * Without `seen` (`like`, which folds adapters and starts LoftQ and QPiSSA) it is plain rounding, as H = I gives. Codes
 * are chosen by scales in float32, which are then kept in float16, as the packed checkpoints have them.
 */
export const gptq = ({
  bits = 4,
  group = 128,
  actOrder = false,
  symmetric = true,
  damp = 0.01,
  staticGroups = false,
}: GptqOptions = {}): Codec<GptqParts> => {
  if (!(damp >= 0 && damp < 1)) throw new Error(`gptq: damp must be at least 0 and below 1, found ${damp}`)
  const grid = affineNamed('gptq', { bits, group, symmetric })
  const block = ([, width]: readonly [number, number]): number => blockOf('gptq', group, width)
  const isOrdered = (shape: readonly [number, number]): boolean => actOrder && !staticGroups && block(shape) < shape[1]
  const orderOf = (p: GptqParts): Tensor | undefined => (p as Partial<Ordered>).order
  const identity = (width: number): Int32Array => Int32Array.from({ length: width }, (_, i) => i)

  const encode = (w: Tensor2D, seen?: Seen): GptqParts => {
    const { shape } = w
    const options = { bits, symmetric, group: block(shape) }
    const ordered = isOrdered(shape)
    const now = numbersNow(w)
    const h = seen && numbersNow(seen.get('moment'))
    if (seen && !(now && h))
      throw new Error('gptq: solves on numbers that this backend reads only later; give it to quantize, which waits')
    if (!now) return onDevice(w, options.group, ordered)
    const [out, width] = shape
    if (h && h.length !== width * width)
      throw new Error(
        `gptq: E[x·xᵀ] has ${h.length} numbers, and rows of ${width} need ${width}²; calibrate this network`,
      )
    const solved = h
      ? solveGptq(now, [out, width], h, { ...options, actOrder, staticGroups, damp })
      : rounded(now, [out, width], options)
    return partsOf({ ...(ordered && { order: identity(width) }), ...solved }, { bits, symmetric, ordered })
  }
  /** plain rounding where nothing can be read */
  const onDevice = (w: Tensor2D, size: number, ordered: boolean): GptqParts =>
    tidy(() => {
      const width = w.shape[1]
      const order = ordered && tensor([...identity(width), ...identity(width)], [2, width], 'int32')
      const found = (): GptqParts => {
        if (!symmetric) return grid.encode(w)
        const scale = div(mul(absmax(w, size), 2), 2 ** bits - 1) // [groups]
        return { q: encodeUniform(w, { scale, zero: 2 ** (bits - 1) }, { bits, block: size }), scale }
      }
      const { scale, ...rest } = found()
      const row = reshape(scale, [1, -1]) as Tensor2D
      const half = f16().decode(f16().encode(row), row.shape)
      return { ...rest, scale: reshape(half, [-1]), ...(order && { order }) } as GptqParts
    })

  return {
    name: 'gptq',
    options: { bits, group, actOrder, symmetric, damp, staticGroups },
    calibrates: ['moment'],
    encode,
    layout: (shape) => ({
      ...grid.layout!(shape),
      ...(isOrdered(shape) && { order: { dtype: 'int32', shape: [2, shape[1]] } satisfies PartLayout }),
    }),
    ...(!(actOrder && !staticGroups) && { decoder: grid.decoder }),
    decode: (p, shape) =>
      tidy(() => {
        const w = grid.decode(p, shape) // [out, in], columns as stored
        const order = orderOf(p)
        return (order ? reshape(orderColumns(w, order, true), [...shape]) : w) as Tensor2D
      }),
    matmul: (x, p, shape) => {
      const order = orderOf(p)
      return decodedProduct(order ? reshape(orderColumns(x, order), x.shape) : x, shape, grid.decoder(p, shape))
    },
    gradient: (dy, p, shape) => {
      const order = orderOf(p)
      const dx = decodedProduct(dy, shape, grid.decoder(p, shape), true) // [..., in], columns as stored
      return dx && order ? reshape(orderColumns(dx, order, true), dx.shape) : dx
    },
    rows: (p, shape, index) =>
      tidy(() => {
        const found = grid.rows!(p, shape, index) // [..., in]
        const order = orderOf(p)
        return order ? reshape(orderColumns(found, order, true), found.shape) : found
      }),
  }
}
