/** AWQ's packings, of codes of 4 bits: ours lie row by row of [out, in], the first of two in the low half of a byte. */

/** GEMM: nibble i of a word is output ORDER[i] of eight */
const ORDER = [0, 2, 4, 6, 1, 3, 5, 7]

export interface Sides {
  readonly out: number
  /** codes in a row: inputs, or groups */
  readonly width: number
}

/** words [width, out/8] → codes, in words of a stream */
export const fromGemm = (words: Int32Array, { out, width }: Sides): Int32Array<ArrayBuffer> => {
  const found = new Int32Array(Math.ceil((out * width) / 8))
  const bytes = new Uint8Array(found.buffer)
  for (let i = 0, at = 0; i < width; i++)
    for (let c = 0; c < out; c += 8) {
      const word = words[at++]!
      for (let p = 0; p < 8; p++) {
        const n = (c + ORDER[p]!) * width + i
        bytes[n >> 1]! |= ((word >>> (4 * p)) & 15) << (4 * (n & 1))
      }
    }
  return found
}

/** the inverse */
export const toGemm = (stream: Uint8Array, { out, width }: Sides): Int32Array<ArrayBuffer> => {
  const found = new Int32Array((width * out) / 8)
  for (let i = 0, at = 0; i < width; i++)
    for (let c = 0; c < out; c += 8) {
      let word = 0
      for (let p = 0; p < 8; p++) {
        const n = (c + ORDER[p]!) * width + i
        word |= ((stream[n >> 1]! >> (4 * (n & 1))) & 15) << (4 * p)
      }
      found[at++] = word
    }
  return found
}

/** GEMV: words [out, columns], in order, of which `width` codes of each row count */
export const fromGemv = (words: Int32Array, columns: number, { out, width }: Sides): Int32Array<ArrayBuffer> => {
  const found = new Int32Array(Math.ceil((out * width) / 8))
  const bytes = new Uint8Array(found.buffer)
  for (let o = 0, n = 0; o < out; o++)
    for (let i = 0; i < width; i++, n++) {
      const code = (words[o * columns + (i >> 3)]! >>> (4 * (i & 7))) & 15
      bytes[n >> 1]! |= code << (4 * (n & 1))
    }
  return found
}

/** a matrix of numbers of 2 or 4 bytes on its side: [rows, columns] → [columns, rows] */
export const onSide = <T extends Uint16Array | Float32Array>(x: T, rows: number, columns: number): T => {
  const found = x.slice() as T
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) found[c * rows + r] = x[r * columns + c]!
  return found
}
