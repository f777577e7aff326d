/** Codes of 1 to 16 bits in a row of bits: code k in bits [kb, (k+1)b), the lowest bit of a word first. */

/** takes codes, each below 2^bits, in their order */
export const streamOf = (out: { length: number; [i: number]: number }, bits: number): ((code: number) => void) => {
  let [word, at, fill] = [0, 0, 0]
  return (code) => {
    word |= code << fill
    fill += bits
    if (fill >= 32) {
      out[at++] = word
      fill -= 32
      word = fill ? code >>> (bits - fill) : 0
    }
    if (at < out.length) out[at] = word
  }
}

/** codes, each below 2^bits → words */
export const packStream = (codes: ArrayLike<number>, bits: number): Int32Array<ArrayBuffer> => {
  const words = new Int32Array(Math.ceil((codes.length * bits) / 32))
  const push = streamOf(words, bits)
  for (let k = 0; k < codes.length; k++) push(codes[k]!)
  return words
}

/** code k */
export const streamAt = (words: ArrayLike<number>, bits: number, k: number): number => {
  const at = k * bits
  const i = Math.floor(at / 32)
  const shift = at - 32 * i
  const low = words[i]! >>> shift
  return (shift + bits > 32 ? low | (words[i + 1]! << (32 - shift)) : low) & ((1 << bits) - 1)
}

/** the first n codes */
export const unpackStream = (words: ArrayLike<number>, bits: number, n: number): Int32Array<ArrayBuffer> =>
  Int32Array.from({ length: n }, (_, k) => streamAt(words, bits, k))
