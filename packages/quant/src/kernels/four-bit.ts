import type { Tensor } from '@weftjs/spec'
import { add, mean, reshape, sub, tidy } from '@weftjs/tensor'
import { type Decoder, decodedProduct } from '@weftjs/tensor/decoded'
import { DYNAMIC } from '../dynamic8.ts'
import { absmax } from './absmax.ts'
import type { Decodable } from './decodable.ts'
import { tableDecoder } from './decoder.ts'
import { codes, numbers } from './layout.ts'
import { decodeRows, decodeTable, encodeTable, type Table } from './table.ts'

export interface FourBitOptions {
  /** numbers that share a scale: 32, 64, ... 4096 */
  readonly block?: number
  /** keep the scales in 8 bits too */
  readonly double?: boolean
  /** scales that share a scale */
  readonly doubleBlock?: number
}
export interface FourBitParts extends Record<string, Tensor> {
  /** codes, eight to an int32 word, row-major, in the bytes that bitsandbytes writes [⌈n/8⌉] */
  q: Tensor
  /** largest magnitude of each block: float32 [⌈n/block⌉], or its 8-bit codes, four to a word, where double */
  absmax: Tensor
}
/** what double quantization adds */
export interface Nested {
  /** largest magnitude in each block of (absmax − offset): float32 [⌈blocks/doubleBlock⌉] */
  readonly nested: Tensor
  /** mean of the scales, [1] */
  readonly offset: Tensor
}

/** Largest block sizes share few scales; these are the ones bitsandbytes knows. */
const isBlock = (n: number): boolean => Number.isInteger(n) && n >= 32 && n <= 4096 && (n & (n - 1)) === 0

/** A code book of 16 levels on blocks of the flattened matrix; the last block may be short. */
export const fourBit = (
  name: string,
  book: Table,
  { block = 64, double = false, doubleBlock = 256 }: FourBitOptions,
): Decodable<FourBitParts> => {
  if (!isBlock(block)) throw new Error(`${name}: block must be 32, 64, 128 ... or 4096, found ${block}`)
  if (!isBlock(doubleBlock))
    throw new Error(`${name}: doubleBlock must be 32, 64, 128 ... or 4096, found ${doubleBlock}`)
  const scales = (p: FourBitParts, n: number): Tensor => {
    if (!double) return p.absmax
    const { nested, offset } = p as unknown as Nested
    return add(decodeTable(p.absmax, nested, DYNAMIC, doubleBlock, Math.ceil(n / block)), offset) // [⌈n/block⌉]
  }
  const decoder = (p: FourBitParts, n: number): Decoder => {
    const { nested, offset } = p as unknown as Nested
    const scale = double ? { codes: p.absmax, table: DYNAMIC, scale: nested, offset, block: doubleBlock } : p.absmax
    return tableDecoder(p.q, book, block, n, scale)
  }
  return {
    name,
    options: { block, double, ...(double && { doubleBlock }) },
    encode: (w) =>
      tidy(() => {
        const scale = absmax(w, block) // [⌈n/block⌉]
        const q = encodeTable(w, scale, book, block)
        if (!double) return { q, absmax: scale }
        const offset = reshape(mean(scale), [1])
        const rest = sub(scale, offset)
        const nested = absmax(rest, doubleBlock) // [⌈n/block/doubleBlock⌉]
        return { q, absmax: encodeTable(rest, nested, DYNAMIC, doubleBlock), nested, offset }
      }),
    layout: ([out, input]) => {
      const blocks = Math.ceil((out * input) / block)
      const q = codes(4, out * input)
      if (!double) return { q, absmax: numbers(blocks) }
      return { q, absmax: codes(8, blocks), nested: numbers(Math.ceil(blocks / doubleBlock)), offset: numbers(1) }
    },
    decoder: (p, shape) => decoder(p, shape[0] * shape[1]),
    decode: (p, shape) =>
      tidy(() => {
        const n = shape[0] * shape[1]
        return reshape(decodeTable(p.q, scales(p, n), book, block, n), [...shape])
      }),
    matmul: (x, p, shape) => decodedProduct(x, shape, decoder(p, shape[0] * shape[1])),
    gradient: (dy, p, shape) => decodedProduct(dy, shape, decoder(p, shape[0] * shape[1]), true),
    rows: (p, shape, index) =>
      tidy(() => {
        const found = decodeRows(p.q, scales(p, shape[0] * shape[1]), book, block, shape, reshape(index, [-1]))
        return reshape(found, [...index.shape, shape[1]])
      }),
  }
}
