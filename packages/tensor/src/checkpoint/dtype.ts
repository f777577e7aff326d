import { CheckpointError, type Place } from './error.ts'
import { decodeMini, encodeMini, type MiniDtype, minifloats } from './minifloat.ts'

/** The dtypes of the safetensors format. */
export type Dtype =
  | 'BOOL'
  | MiniDtype
  | 'U8'
  | 'I8'
  | 'I16'
  | 'U16'
  | 'BF16'
  | 'I32'
  | 'U32'
  | 'F32'
  | 'C64'
  | 'F64'
  | 'I64'
  | 'U64'

/** Bits per element, in the format's order of increasing alignment; files are laid out from the last to the first. */
const BITS: Readonly<Record<Dtype, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
}

/** All dtypes, in the format's order of increasing alignment. */
export const dtypes: readonly Dtype[] = Object.keys(BITS) as Dtype[]
const ORDER = new Map(dtypes.map((dtype, i) => [dtype, i]))

export const isDtype = (name: unknown): name is Dtype => ORDER.has(name as Dtype)
/** bits per element: 4 and 6 for the packed ones */
export const bitsOf = (dtype: Dtype): number => BITS[dtype]
/** place in the format's order of alignment */
export const rankOf = (dtype: Dtype): number => ORDER.get(dtype)!

const INTEGERS: Partial<Record<Dtype, readonly [lo: number, hi: number]>> = {
  BOOL: [0, 1],
  U8: [0, 0xff],
  I8: [-0x80, 0x7f],
  I16: [-0x8000, 0x7fff],
  U16: [0, 0xffff],
  I32: [-0x80000000, 0x7fffffff],
  U32: [0, 0xffffffff],
  I64: [-0x80000000, 0x7fffffff],
  U64: [0, 0xffffffff],
}
/** read with `decodeFloats`, written with `encodeFloats` */
export const isFloating = (dtype: Dtype): boolean => dtype !== 'C64' && !(dtype in INTEGERS)
/** read with `decodeInts`, written with `encodeInts`; BOOL counts as 0 and 1 */
export const isInteger = (dtype: Dtype): boolean => dtype in INTEGERS

/** Number of elements of a shape, or undefined when a side is no non-negative integer or the product passes 2⁵³. */
export const elementsOf = (shape: readonly unknown[]): number | undefined => {
  let n = 1
  for (const side of shape) {
    if (!Number.isSafeInteger(side) || (side as number) < 0) return undefined
    n *= side as number
    if (!Number.isSafeInteger(n)) return undefined
  }
  return n === 0 ? 0 : n
}

/** Bytes of `elements` elements, or undefined when the packed bits do not fill whole bytes or the size passes 2⁵³. */
export const bytesOf = (dtype: Dtype, elements: number): number | undefined => {
  const bits = BITS[dtype]
  if (elements > Number.MAX_SAFE_INTEGER / bits) return undefined
  const total = elements * bits
  return total % 8 === 0 ? total / 8 : undefined
}

type Arrays =
  | typeof Int16Array
  | typeof Uint16Array
  | typeof Int32Array
  | typeof Uint32Array
  | typeof Float32Array
  | typeof Float64Array

/** the bytes as elements: a view where the offset is aligned, else a copy */
const view = <A extends Arrays>(type: A, bytes: Uint8Array): InstanceType<A> => {
  const { BYTES_PER_ELEMENT: size } = type
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  return new type(aligned.buffer as ArrayBuffer, aligned.byteOffset, bytes.byteLength / size) as InstanceType<A>
}
const bytesView = (array: ArrayBufferView): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

/** @throws CheckpointError unless the bytes hold whole elements */
const checkLength = (dtype: Dtype, bytes: Uint8Array, place: Place): void => {
  if ((bytes.byteLength * 8) % BITS[dtype] !== 0)
    throw new CheckpointError(`${bytes.byteLength} bytes are no whole number of ${dtype} elements`, place)
}

/**
 * Bytes of a floating dtype → numbers: exact for all but F64, which is rounded to float32.
 * F32 may share memory with `bytes`; packed dtypes are unpacked from the low bits up, as torch packs them.
 * @throws CheckpointError when the dtype is an integer or complex one
 */
export const decodeFloats = (dtype: Dtype, bytes: Uint8Array, place: Place = {}): Float32Array => {
  checkLength(dtype, bytes, place)
  if (dtype === 'F32') return view(Float32Array, bytes)
  if (dtype === 'F64') return Float32Array.from(view(Float64Array, bytes))
  if (dtype === 'BF16') {
    const half = view(Uint16Array, bytes)
    const bits = new Uint32Array(half.length)
    for (let i = 0; i < half.length; i++) bits[i] = half[i]! << 16
    return view(Float32Array, bytesView(bits))
  }
  if (dtype === 'F16') return decodeMini('F16', view(Uint16Array, bytes))
  if (dtype in minifloats) return decodeMini(dtype as MiniDtype, unpack(BITS[dtype], bytes))
  const remedy = dtype === 'C64' ? 'read its bytes: pairs of float32, real and imaginary' : 'read it as integers'
  throw new CheckpointError(`has dtype ${dtype}, not a floating one; ${remedy}`, place)
}

/**
 * float32 numbers → bytes of a floating dtype, rounded to nearest, ties to even. Out of range: infinity for F16, BF16
 * and F8_E5M2, NaN for the other F8, as torch; the largest number for F4 and F6 (OCP MX). F8_E8M0 keeps no sign.
 * F32 shares memory with `values`.
 * @throws CheckpointError when the dtype is not floating, or F4 or F6 and a value is NaN
 */
export const encodeFloats = (dtype: Dtype, values: Float32Array, place: Place = {}): Uint8Array => {
  if (dtype === 'F32') return bytesView(values)
  if (dtype === 'F64') return bytesView(Float64Array.from(values))
  if (dtype === 'BF16') {
    const bits = view(Uint32Array, bytesView(values))
    const half = new Uint16Array(bits.length)
    for (let i = 0; i < bits.length; i++) {
      const x = bits[i]!
      half[i] = (x & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (x + 0x7fff + ((x >>> 16) & 1)) >>> 16
    }
    return bytesView(half)
  }
  if (!(dtype in minifloats))
    throw new CheckpointError(`has dtype ${dtype}, not a floating one; declare F32, F16 or BF16`, place)
  const bits = view(Uint32Array, bytesView(values))
  if (dtype === 'F16') return bytesView(encodeMini('F16', bits, new Uint16Array(values.length), place))
  const codes = encodeMini(dtype as MiniDtype, bits, new Uint8Array(values.length), place)
  return pack(BITS[dtype], codes, dtype, place)
}

/** element i of a packed dtype is bits [i·width, (i+1)·width) of the bytes, lowest bit first */
const unpack = (width: number, bytes: Uint8Array): Uint8Array => {
  if (width === 8) return bytes
  const codes = new Uint8Array((bytes.length * 8) / width)
  const mask = (1 << width) - 1
  for (let i = 0, bit = 0; i < codes.length; i++, bit += width) {
    const pair = bytes[bit >>> 3]! | ((bytes[(bit >>> 3) + 1] ?? 0) << 8)
    codes[i] = (pair >>> (bit & 7)) & mask
  }
  return codes
}
const pack = (width: number, codes: Uint8Array, dtype: Dtype, place: Place): Uint8Array => {
  if (width === 8) return codes
  const size = bytesOf(dtype, codes.length)
  if (size === undefined)
    throw new CheckpointError(`${codes.length} elements of ${dtype} do not fill whole bytes; pad the tensor`, place)
  const bytes = new Uint8Array(size)
  for (let i = 0, bit = 0; i < codes.length; i++, bit += width) {
    const pair = codes[i]! << (bit & 7)
    bytes[bit >>> 3]! |= pair
    if (pair > 0xff) bytes[(bit >>> 3) + 1]! |= pair >>> 8
  }
  return bytes
}

const outside = (dtype: Dtype, i: number, value: number | bigint, place: Place): CheckpointError =>
  new CheckpointError(`element ${i} of this ${dtype} tensor is ${value}, outside int32; read its bytes instead`, place)

/**
 * Bytes of an integer dtype or BOOL → int32; I32 may share memory with `bytes`.
 * @throws CheckpointError when the dtype is not an integer one, or a value does not fit int32 (names the tensor)
 */
export const decodeInts = (dtype: Dtype, bytes: Uint8Array, place: Place = {}): Int32Array => {
  checkLength(dtype, bytes, place)
  if (dtype === 'I32') return view(Int32Array, bytes)
  if (dtype === 'U8') return Int32Array.from(bytes)
  if (dtype === 'I8') return Int32Array.from(new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  if (dtype === 'BOOL') return Int32Array.from(bytes, (x) => (x === 0 ? 0 : 1))
  if (dtype === 'I16') return Int32Array.from(view(Int16Array, bytes))
  if (dtype === 'U16') return Int32Array.from(view(Uint16Array, bytes))
  if (dtype === 'U32') {
    const out = view(Int32Array, bytes).slice()
    const i = out.findIndex((x) => x < 0)
    if (i >= 0) throw outside(dtype, i, out[i]! >>> 0, place)
    return out
  }
  if (dtype === 'I64' || dtype === 'U64') {
    const words = view(Int32Array, bytes) // low, high
    const out = new Int32Array(words.length / 2)
    for (let i = 0; i < out.length; i++) {
      const low = words[2 * i]!
      const high = words[2 * i + 1]!
      if (high !== low >> 31 || (dtype === 'U64' && high !== 0)) {
        const wide = (BigInt(high) << 32n) | BigInt(low >>> 0)
        throw outside(dtype, i, dtype === 'U64' ? BigInt.asUintN(64, wide) : wide, place)
      }
      out[i] = low
    }
    return out
  }
  throw new CheckpointError(`has dtype ${dtype}, not an integer one; read it as floats`, place)
}

/**
 * int32 numbers → bytes of an integer dtype or BOOL; I32 shares memory with `values`.
 * @throws CheckpointError when the dtype is not an integer one, or a value does not fit it
 */
export const encodeInts = (dtype: Dtype, values: Int32Array, place: Place = {}): Uint8Array => {
  const range = INTEGERS[dtype]
  if (!range) throw new CheckpointError(`has dtype ${dtype}, not an integer one; declare I32 or I64`, place)
  const [lo, hi] = range
  const i = values.findIndex((x) => x < lo || x > hi)
  if (i >= 0)
    throw new CheckpointError(`element ${i} is ${values[i]}, outside ${dtype}; declare a wider integer dtype`, place)
  if (dtype === 'I32' || dtype === 'U32') return bytesView(values)
  if (dtype === 'I64' || dtype === 'U64') {
    const words = new Int32Array(values.length * 2)
    for (let j = 0; j < values.length; j++) {
      words[2 * j] = values[j]!
      words[2 * j + 1] = values[j]! >> 31
    }
    return bytesView(words)
  }
  return BITS[dtype] === 16 ? bytesView(Int16Array.from(values)) : Uint8Array.from(values)
}
