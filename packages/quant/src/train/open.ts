import type { Codec, Params, Tensor, Weight } from '@weftjs/spec'
import {
  add,
  gatherRows,
  mul,
  reshape,
  stopGradient,
  sub,
  sum,
  type Tensor2D,
  tensor,
  tensor1d,
  transpose,
} from '@weftjs/tensor'
import { fromParts } from '@weftjs/weight'
import { type AqlmOptions, type AqlmParts, partsOf } from '../aqlm.ts'
import { FP4 } from '../fp4.ts'
import { floatsOf } from '../kernels/additive.ts'
import { packStream, unpackStream } from '../kernels/stream.ts'
import { NF4 } from '../nf4.ts'

/** How a packed matrix falls apart: groups of numbers, each scale · (Σ_c books[c][code c] − shift). */
export interface Opening {
  readonly shape: readonly [out: number, input: number]
  readonly codebooks: number
  /** of a code */
  readonly bits: number
  /** a group: neighbours in a row, and rows */
  readonly group: number
  readonly outGroup: number
  /** groups, in their order, that share a scale */
  readonly block: number
  /** do the code books train? else they are the format's, and scales alone do */
  readonly learns: boolean
  /** numbers that train have 11 bits, as float16 does */
  readonly halves: boolean
  /** subtracted before the scale, one for each; the middle of an even grid */
  readonly shift?: Float32Array
}
export interface Opened {
  readonly at: Opening
  /** [groups · codebooks] */
  readonly codes: Int32Array
  /** [codebooks · 2^bits · outGroup · group] */
  readonly books: Float32Array
  readonly scale: Float32Array
}
/** a format that opens, and closes again over what has become of its parts */
interface Openable {
  open(weight: Weight): Opened
  close(opened: Opened, weight: Weight): Params
}

const words = (t: Tensor): Int32Array => t.dataSync() as Int32Array
const copied = (t: Tensor): Float32Array => Float32Array.from(t.dataSync() as Float32Array)

const additive: Openable = {
  open: ({ codec, parts, shape }) => {
    const { codebooks = 2, bits = 8, group = 8, outGroup = 1 } = codec!.options as AqlmOptions
    const { q, books, scale } = parts as AqlmParts
    const n = (shape[0] * shape[1]) / group / outGroup
    const at = { shape, codebooks, bits, group, outGroup, block: shape[1] / group, learns: true, halves: true }
    return {
      at,
      codes: unpackStream(words(q), bits, n * codebooks),
      books: floatsOf(words(books)).slice(0, codebooks * 2 ** bits * group * outGroup),
      scale: copied(scale),
    }
  },
  close: ({ at, codes, books, scale }) =>
    partsOf({ codes, books: books.map(short), scales: scale.map(short) }, at.bits) as Params,
}

/** a table of 16 levels, two codes a byte, the first in the high half */
const table = (levels: readonly number[]): Openable => ({
  open: ({ codec, parts, shape }) => {
    const { block = 64, double = false } = codec!.options as { block?: number; double?: boolean }
    if (double) throw new Error(`${codec!.name}: scales that are packed themselves cannot train; use double: false`)
    const n = shape[0] * shape[1]
    const { buffer, byteOffset } = words(parts['q']!)
    const bytes = new Uint8Array(buffer, byteOffset, Math.ceil(n / 2))
    return {
      at: { shape, codebooks: 1, bits: 4, group: 1, outGroup: 1, block, learns: false, halves: false },
      codes: Int32Array.from({ length: n }, (_, i) => (i % 2 ? bytes[i >> 1]! & 15 : bytes[i >> 1]! >> 4)),
      books: Float32Array.from(levels),
      scale: copied(parts['absmax']!),
    }
  },
  close: ({ codes, scale }, { parts }) => {
    const found = new Int32Array(parts['q']!.size)
    const bytes = new Uint8Array(found.buffer)
    // what fills up the last byte stays
    const { buffer, byteOffset } = words(parts['q']!)
    bytes.set(new Uint8Array(buffer, byteOffset, bytes.length))
    codes.forEach((code, i) => {
      bytes[i >> 1] = i % 2 ? (bytes[i >> 1]! & 0xf0) | code : (bytes[i >> 1]! & 15) | (code << 4)
    })
    return { q: tensor1d(found, 'int32'), absmax: tensor1d(Float32Array.from(scale)) }
  },
})

/** an even grid with a scale and a zero for each group of a row; `known` where the name says how many bits */
const even = (known?: number): Openable => ({
  open: ({ codec, parts, shape }) => {
    const {
      bits = known ?? 4,
      group = 64,
      symmetric = false,
    } = codec!.options as {
      bits?: number
      group?: number
      symmetric?: boolean
    }
    const block = group === -1 ? shape[1] : group
    const scale = copied(parts['scale']!)
    const stored = parts['zero']
    const numbers = stored?.dtype === 'float32' && copied(stored)
    const zero = symmetric ? undefined : numbers || unpackStream(words(stored!), bits, scale.length)
    return {
      at: {
        ...{ shape, codebooks: 1, bits, group: 1, outGroup: 1, block, learns: false, halves: false },
        shift: Float32Array.from(scale, (_, i) => zero?.[i] ?? 2 ** (bits - 1)),
      },
      codes: unpackStream(words(parts['q']!), bits, shape[0] * shape[1]),
      books: Float32Array.from({ length: 2 ** bits }, (_, i) => i),
      scale,
    }
  },
  close: ({ at, codes, scale }, { parts }) => ({
    ...parts,
    q: tensor1d(packStream(codes, at.bits), 'int32'),
    scale: tensor1d(Float32Array.from(scale)),
  }),
})

const OPENABLE: Readonly<Record<string, Openable>> = {
  aqlm: additive,
  nf4: table(NF4),
  fp4: table(FP4),
  affine: even(),
  int2: even(2),
  int3: even(3),
  int4: even(4),
}
/** are codes of this format known here? */
export const opens = (codec: Codec<any> | undefined): boolean =>
  codec !== undefined && Object.hasOwn(OPENABLE, codec.name)
const openable = (where: string, codec: Codec<any> | undefined): Openable => {
  if (opens(codec)) return OPENABLE[codec!.name]!
  throw new Error(
    `${where}: codes of ${codec ? `'${codec.name}'` : 'a dense matrix'} cannot be trained; quantize it to one of ${Object.keys(OPENABLE).join(', ')} first`,
  )
}

/** @throws Error where the weight is in no format whose codes are known */
export const opened = (where: string, weight: Weight): Opened => openable(where, weight.codec).open(weight)

/** the weight in its format again, with other codes, books and scales */
export const closed = (weight: Weight, found: Opened): Weight =>
  fromParts(weight.codec!, openable('', weight.codec).close(found, weight), weight.shape)

const SPLIT = 2 ** 13 + 1
/** to 11 bits: what float32 loses when this is taken away again */
export const short = (v: number): number => {
  const c = Math.fround(v * SPLIT)
  return Math.fround(c - Math.fround(c - Math.fround(v)))
}
/** the same of a tensor, straight through for the gradient */
const shortened = (x: Tensor): Tensor => {
  const v = stopGradient(x)
  const c = mul(v, SPLIT)
  return add(x, stopGradient(sub(sub(c, sub(c, v)), v)))
}

export interface Pieces extends Record<string, Tensor> {
  /** [groups, codebooks] int32 */
  codes: Tensor
  /** [codebooks · 2^bits, outGroup · group] */
  books: Tensor
  /** [groups/block] */
  scale: Tensor
}

/** numbers of a matrix in the order of groups → as they lie in it, or back */
export const ungrouped = (
  { shape: [out, input], group, outGroup }: Opening,
  v: ArrayLike<number>,
  back = false,
): Float32Array => {
  if (outGroup === 1) return Float32Array.from(v)
  const [d, columns] = [group * outGroup, input / group]
  const to = new Float32Array(out * input)
  for (let g = 0, i = 0; i < v.length; g++)
    for (let t = 0; t < d; t++, i++) {
      const row = Math.floor(g / columns) * outGroup + Math.floor(t / group)
      const at = row * input + (g % columns) * group + (t % group)
      if (back) to[i] = v[at]!
      else to[at] = v[i]!
    }
  return to
}

/** numbers of group g's scale: code k of C in `from`, what a group is; for whoever needs no gradient */
export const groupsOf = (
  at: Opening,
  codes: ArrayLike<number>,
  books: ArrayLike<number>,
  scale: ArrayLike<number>,
): Float32Array => {
  const { codebooks, bits, group, outGroup, block, shift } = at
  const d = group * outGroup
  const w = new Float32Array((codes.length / codebooks) * d)
  for (let g = 0, code = 0, i = 0; i < w.length; g++, code += codebooks) {
    const b = Math.floor(g / block)
    for (let t = 0; t < d; t++, i++) {
      let v = 0
      for (let c = 0; c < codebooks; c++) v += books[(c * 2 ** bits + codes[code + c]!) * d + t]!
      w[i] = scale[b]! * (v - (shift?.[b] ?? 0))
    }
  }
  return w
}

/** W [out, in] by ops that pass a gradient to books and scale */
export const rebuild = (at: Opening, { codes, books, scale }: Pieces): Tensor2D => {
  const { shape, codebooks, bits, group, outGroup, block, shift, halves } = at
  const d = group * outGroup
  const groups = codes.size / codebooks
  // codes of book c are those of rows c·2^bits and on
  const from = tensor1d(
    Int32Array.from({ length: codebooks }, (_, c) => c * 2 ** bits),
    'int32',
  )
  const vectors = gatherRows(halves ? shortened(books) : books, codebooks > 1 ? add(codes, from) : codes) // [groups, codebooks, d]
  let v = codebooks > 1 ? sum(vectors, 1) : reshape(vectors, [groups, d]) // [groups, d]
  const s = halves ? shortened(scale) : scale
  const index = (): Tensor =>
    tensor1d(
      Int32Array.from({ length: groups }, (_, g) => Math.floor(g / block)),
      'int32',
    )
  const spread = (t: Tensor): Tensor => gatherRows(reshape(t, [-1, 1]), index()) // [groups, 1]
  const whole = groups % block === 0
  if (whole) v = reshape(v, [-1, block, d])
  if (shift) v = sub(v, whole ? tensor(shift, [shift.length, 1, 1]) : spread(tensor1d(shift)))
  v = mul(v, whole ? reshape(s, [-1, 1, 1]) : spread(s))
  if (outGroup === 1) return reshape(v, [...shape]) as Tensor2D
  const tiles = reshape(v, [shape[0] / outGroup, shape[1] / group, outGroup, group])
  return reshape(transpose(tiles, [0, 2, 1, 3]), [...shape]) as Tensor2D
}
