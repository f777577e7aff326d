import type { TernaryVector } from './ternary.ts'

/** Bits from the lowest of each byte up. */
const writer = () => {
  let bytes = new Uint8Array(64)
  let [byte, used, at] = [0, 0, 0]
  const bit = (b: number): void => {
    byte |= b << used++
    if (used < 8) return
    if (at === bytes.length) {
      const more = new Uint8Array(2 * at)
      more.set(bytes)
      bytes = more
    }
    bytes[at++] = byte
    byte = used = 0
  }
  return {
    bit,
    bits: (v: number, n: number): void => {
      for (let i = 0; i < n; i++) bit((v >>> i) & 1)
    },
    end: (): Uint8Array => {
      while (used) bit(0)
      return bytes.slice(0, at)
    },
  }
}

/** the most that a remainder has */
export const MOST_RICE = 30

/**
 * Bits of a gap's remainder: gaps between kept numbers are nearly geometric with p = k, and 2ʳ is best near their median,
 * ln 2/−ln(1 − k)  —  Golomb, IEEE Trans. Inf. Theory 1966; Rice, JPL 79-22
 */
export const riceParameter = (k: number): number => {
  const r = Math.round(Math.log2(Math.LN2 / -Math.log1p(-k)))
  return Math.min(MOST_RICE, Math.max(0, Number.isFinite(r) ? r : k >= 1 ? 0 : MOST_RICE))
}

/** For each kept number: ⌊gap/2ʳ⌋ ones and a zero, the r low bits of the gap, and a 1 where it is below 0. */
export const toRice = (
  { length, plus, minus }: Pick<TernaryVector, 'length' | 'plus' | 'minus'>,
  r: number,
): Uint8Array => {
  const out = writer()
  let before = -1
  for (let i = 0; i < length; i++) {
    const bit = 1 << (i & 31)
    const negative = minus[i >> 5]! & bit
    if (!negative && !(plus[i >> 5]! & bit)) continue
    const gap = i - before - 1
    for (let q = gap >>> r; q > 0; q--) out.bit(1)
    out.bit(0)
    out.bits(gap, r)
    out.bit(negative ? 1 : 0)
    before = i
  }
  return out.end()
}

/**
 * The masks again, from `count` numbers in `length` places. No more is read than there is, and every turn reads a bit.
 * @throws Error where the bits end early or lead beyond `length`
 */
export const fromRice = (
  bytes: Uint8Array,
  length: number,
  count: number,
  r: number,
): Pick<TernaryVector, 'length' | 'plus' | 'minus'> => {
  const total = 8 * bytes.length
  // each number takes r + 2 bits at least
  if (count * (r + 2) > total)
    throw new Error(`${count} numbers of ${r + 2} bits or more, and ${bytes.length} bytes to read them from`)
  const words = Math.ceil(length / 32)
  const [plus, minus] = [new Int32Array(words), new Int32Array(words)]
  let at = 0
  const bit = (): number => {
    if (at >= total) throw new Error(`the bits end within the ${count} numbers they should hold`)
    const b = (bytes[at >> 3]! >> (at & 7)) & 1
    at++
    return b
  }
  let place = -1
  for (let n = 0; n < count; n++) {
    let gap = 0
    while (bit()) gap += 2 ** r
    for (let i = 0; i < r; i++) gap += bit() * 2 ** i
    place += gap + 1
    if (place >= length) throw new Error(`number ${n} stands at ${place}, beyond the ${length} there are`)
    ;(bit() ? minus : plus)[place >> 5]! |= 1 << (place & 31)
  }
  return { length, plus, minus }
}
