import { CheckpointError, type Place } from './error.ts'

/** Floats of 4 to 16 bits: sign, `exponent` and `mantissa` bits. */
export type MiniDtype =
  | 'F4'
  | 'F6_E2M3'
  | 'F6_E3M2'
  | 'F8_E5M2'
  | 'F8_E4M3'
  | 'F8_E8M0'
  | 'F8_E4M3FNUZ'
  | 'F8_E5M2FNUZ'
  | 'F16'

export interface Minifloat {
  readonly exponent: number
  readonly mantissa: number
  readonly bias: number
  /** largest finite magnitude's code, sign bit clear */
  readonly largest: number
  /** code of what is out of range: infinity, NaN, or `largest` itself */
  readonly overflow: number
  /** code that NaN is written as; absent where the format has none */
  readonly nan?: number
  /** zero and NaN have no sign: the code of −0 is the NaN */
  readonly unsignedZero?: true
}

/** IEEE 754 binary16; OFP8 (arXiv:2209.05433); FNUZ (arXiv:2206.02915); OCP Microscaling 1.0 for F4, F6 and E8M0. */
export const minifloats: Readonly<Record<MiniDtype, Minifloat>> = {
  F4: { exponent: 2, mantissa: 1, bias: 1, largest: 0x7, overflow: 0x7 },
  F6_E2M3: { exponent: 2, mantissa: 3, bias: 1, largest: 0x1f, overflow: 0x1f },
  F6_E3M2: { exponent: 3, mantissa: 2, bias: 3, largest: 0x1f, overflow: 0x1f },
  F8_E5M2: { exponent: 5, mantissa: 2, bias: 15, largest: 0x7b, overflow: 0x7c, nan: 0x7f },
  F8_E4M3: { exponent: 4, mantissa: 3, bias: 7, largest: 0x7e, overflow: 0x7f, nan: 0x7f },
  F8_E8M0: { exponent: 8, mantissa: 0, bias: 127, largest: 0xfe, overflow: 0xff, nan: 0xff },
  F8_E4M3FNUZ: { exponent: 4, mantissa: 3, bias: 8, largest: 0x7f, overflow: 0x80, nan: 0x80, unsignedZero: true },
  F8_E5M2FNUZ: { exponent: 5, mantissa: 2, bias: 16, largest: 0x7f, overflow: 0x80, nan: 0x80, unsignedZero: true },
  F16: { exponent: 5, mantissa: 10, bias: 15, largest: 0x7bff, overflow: 0x7c00, nan: 0x7e00 },
}

/** float32 bits of one code: (−1)ˢ · 2^(e−bias) · (1 + m/2ᴹ), and 2^(1−bias) · m/2ᴹ for e = 0 */
const decodeBits = (dtype: MiniDtype, code: number): number => {
  const { exponent: E, mantissa: M, bias, largest, overflow, unsignedZero } = minifloats[dtype]
  if (dtype === 'F8_E8M0') return code === 0xff ? 0x7fc00000 : code === 0 ? 0x00400000 : code << 23
  const sign = (code >> (E + M)) & 1
  const magnitude = code & ((1 << (E + M)) - 1)
  if (unsignedZero && sign && magnitude === 0) return 0x7fc00000
  const high = sign ? 0x80000000 : 0
  const m = magnitude & ((1 << M) - 1)
  if (magnitude > largest) {
    const infinite = magnitude === overflow && m === 0
    return (high | 0x7f800000 | (infinite ? 0 : (m << (23 - M)) | 0x400000)) >>> 0
  }
  const e = magnitude >> M
  if (e > 0) return (high | ((e - bias + 127) << 23) | (m << (23 - M))) >>> 0
  if (m === 0) return high >>> 0
  const top = 31 - Math.clz32(m) // the leading one, made implicit
  return (high | ((1 - bias - M + top + 127) << 23) | ((m << (23 - top)) & 0x7fffff)) >>> 0
}

const tables = new Map<MiniDtype, Uint32Array>()
/** float32 bits of every code, made when first asked for */
const table = (dtype: MiniDtype): Uint32Array => {
  const known = tables.get(dtype)
  if (known) return known
  const { exponent, mantissa } = minifloats[dtype]
  const signed = dtype === 'F8_E8M0' ? 0 : 1
  const made = Uint32Array.from({ length: 1 << (exponent + mantissa + signed) }, (_, code) => decodeBits(dtype, code))
  tables.set(dtype, made)
  return made
}

/** Codes → numbers, exactly, by a table of all codes. */
export const decodeMini = (dtype: MiniDtype, codes: Uint8Array | Uint16Array): Float32Array => {
  const bits = table(dtype)
  const out = new Uint32Array(codes.length)
  for (let i = 0; i < codes.length; i++) out[i] = bits[codes[i]!]!
  return new Float32Array(out.buffer)
}

/** exponent alone, as torch: the sign is dropped, a tie with a normal number goes up */
const encodeScale = (x: number): number => {
  const e = (x >>> 23) & 0xff
  if (e === 0xff) return 0xff
  const rest = x & 0x7fffff
  return e + (rest > 0x400000 || (rest === 0x400000 && e > 0) ? 1 : 0)
}

/**
 * float32 bits → codes in `out`, rounded to nearest, ties to even.
 * @throws CheckpointError for a NaN in a format that has none
 */
export const encodeMini = <A extends Uint8Array | Uint16Array>(
  dtype: MiniDtype,
  bits: Uint32Array,
  out: A,
  place: Place = {},
): A => {
  if (dtype === 'F8_E8M0') {
    for (let i = 0; i < bits.length; i++) out[i] = encodeScale(bits[i]!)
    return out
  }
  const { exponent: E, mantissa: M, bias, largest, overflow, nan, unsignedZero } = minifloats[dtype]
  const drop = 23 - M
  for (let i = 0; i < bits.length; i++) {
    const x = bits[i]!
    const a = x & 0x7fffffff
    let code: number
    if (a > 0x7f800000) {
      if (nan === undefined)
        throw new CheckpointError(`element ${i} is NaN, which ${dtype} cannot hold; declare F16, BF16 or F32`, place)
      code = nan
    } else {
      const t = (a >>> 23) - 127 + bias // exponent field in the target
      const shift = t >= 1 ? drop : drop + 1 - t
      const kept = t >= 1 ? (t << 23) | (a & 0x7fffff) : (a & 0x7fffff) | 0x800000
      // a float32 subnormal lies far below half of any target's least number, as does all that shift > 24 drops
      code = shift > 24 ? 0 : (kept + (1 << (shift - 1)) - 1 + ((kept >>> shift) & 1)) >>> shift
      if (code > largest) code = overflow
    }
    out[i] = unsignedZero && code === 0 ? 0 : code | ((x >>> 31) << (E + M))
  }
  return out
}
