/** hqq's packings: the grouped matrix of R rows is cut into equal parts, whose codes lie side by side in a word. */

import { packStream, streamAt } from '../kernels/stream.ts'

/** how codes of some bits lie in a word */
interface Packing {
  readonly name: string
  /** parts, and bytes of a word */
  readonly parts: number
  readonly bytes: 1 | 4
  /** of a code in memory, and of its place in a word */
  readonly bits: number
  /** what a word is taken as */
  readonly dtype: 'torch.uint8' | 'torch.int32'
}
const u8 = (name: string, parts: number, bits: number): Packing => ({
  name,
  parts,
  bytes: 1,
  bits,
  dtype: 'torch.uint8',
})
const PACKINGS: Readonly<Record<string, Packing>> = {
  8: u8('8bit_u8', 1, 8),
  6: u8('8bit_u8', 1, 8),
  5: u8('8bit_u8', 1, 8),
  4: u8('4bit_u8', 2, 4),
  3: { name: '3bit_32', parts: 10, bytes: 4, bits: 3, dtype: 'torch.int32' },
  2: u8('2bit_u8', 4, 2),
  1.58: u8('2bit_u8', 4, 2),
  1: u8('1bit_u8', 8, 1),
}
export const packingOf = (bits: number): Packing => PACKINGS[String(bits)]!

/** rows of what is packed: 3 bits fill up the last part with zeros, the others refuse */
export const packedRows = (bits: number, rows: number): number => {
  const { parts, bytes, name } = packingOf(bits)
  if (bytes === 1 && rows % parts)
    throw new Error(
      `hqq packs ${parts} rows of its grouped matrix into a byte (${name}), and there are ${rows}; choose a group or axis that gives a multiple of ${parts}`,
    )
  return Math.ceil(rows / parts)
}

/** codes of a matrix [rows, columns], row by row in a stream → the bytes of hqq's words */
export const packHqq = (stream: Int32Array, bits: number, rows: number, columns: number): Uint8Array => {
  const { parts, bytes, bits: each } = packingOf(bits)
  const part = packedRows(bits, rows) * columns
  const n = rows * columns
  const out = bytes === 4 ? new Uint32Array(part) : new Uint8Array(part)
  for (let p = 0; p < parts; p++) {
    const shift = each * (parts - 1 - p)
    for (let j = 0, i = p * part; j < part && i < n; j++, i++) out[j]! |= streamAt(stream, each, i) << shift
  }
  return new Uint8Array(out.buffer)
}

/** the inverse, into the words of a stream; what fills up the last part is passed over */
export const unpackHqq = (data: Uint8Array, bits: number, rows: number, columns: number): Int32Array<ArrayBuffer> => {
  const { parts, bytes, bits: each } = packingOf(bits)
  const part = packedRows(bits, rows) * columns
  const n = rows * columns
  const words = bytes === 4 ? new Uint32Array(data.slice().buffer) : data
  const codes = new Uint8Array(n)
  for (let p = 0; p < parts; p++) {
    const shift = each * (parts - 1 - p)
    for (let j = 0, i = p * part; j < part && i < n; j++, i++) codes[i] = (words[j]! >>> shift) & ((1 << each) - 1)
  }
  return packStream(codes, each)
}
