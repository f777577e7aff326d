import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  bytesOf,
  CheckpointError,
  type Dtype,
  decodeFloats,
  decodeInts,
  dtypes,
  elementsOf,
  encodeFloats,
  encodeInts,
  fromBytes,
  isFloating,
  isInteger,
  openSafetensors,
} from '../src/checkpoint/index.ts'

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values)
const one = (dtype: Dtype, ...of: number[]): number => decodeFloats(dtype, bytes(...of))[0]!
const code = (dtype: Dtype, ...values: number[]): number[] => [...encodeFloats(dtype, Float32Array.from(values))]
const half = (x: number): number[] => [x & 0xff, x >> 8]

/** value of a code by the definition: no bit tricks, float64 arithmetic */
const byDefinition = (E: number, M: number, bias: number, c: number): number => {
  const sign = c >> (E + M) === 1 ? -1 : 1
  const e = (c >> M) & (2 ** E - 1)
  const m = (c & (2 ** M - 1)) / 2 ** M
  return sign * (e === 0 ? 2 ** (1 - bias) * m : 2 ** (e - bias) * (1 + m))
}
interface Format {
  readonly E: number
  readonly M: number
  readonly bias: number
  /** special codes */
  readonly special?: (c: number) => number | undefined
}
const formats: Partial<Record<Dtype, Format>> = {
  F4: { E: 2, M: 1, bias: 1 },
  F6_E2M3: { E: 2, M: 3, bias: 1 },
  F6_E3M2: { E: 3, M: 2, bias: 3 },
  F8_E4M3: { E: 4, M: 3, bias: 7, special: (c) => ((c & 0x7f) === 0x7f ? Number.NaN : undefined) },
  F8_E5M2: {
    E: 5,
    M: 2,
    bias: 15,
    special: (c) => ((c & 0x7c) !== 0x7c ? undefined : c & 3 ? Number.NaN : c & 0x80 ? -Infinity : Infinity),
  },
  F8_E4M3FNUZ: { E: 4, M: 3, bias: 8, special: (c) => (c === 0x80 ? Number.NaN : undefined) },
  F8_E5M2FNUZ: { E: 5, M: 2, bias: 16, special: (c) => (c === 0x80 ? Number.NaN : undefined) },
  F16: {
    E: 5,
    M: 10,
    bias: 15,
    special: (c) => ((c & 0x7c00) !== 0x7c00 ? undefined : c & 0x3ff ? Number.NaN : c & 0x8000 ? -Infinity : Infinity),
  },
  BF16: {
    E: 8,
    M: 7,
    bias: 127,
    special: (c) => ((c & 0x7f80) !== 0x7f80 ? undefined : c & 0x7f ? Number.NaN : c & 0x8000 ? -Infinity : Infinity),
  },
}
const widths: Partial<Record<Dtype, number>> = { F4: 4, F6_E2M3: 6, F6_E3M2: 6, F16: 16, BF16: 16 }

/** all codes of a format as its packed bytes */
const allCodes = (dtype: Dtype): Uint8Array => {
  const width = widths[dtype] ?? 8
  if (width === 16) return new Uint8Array(Uint16Array.from({ length: 65536 }, (_, c) => c).buffer)
  const stream = Array.from({ length: 2 ** width }, (_, c) =>
    [...c.toString(2).padStart(width, '0')].reverse().join(''),
  )
  const bits = stream.join('')
  return Uint8Array.from({ length: bits.length / 8 }, (_, i) =>
    Number.parseInt([...bits.slice(8 * i, 8 * i + 8)].reverse().join(''), 2),
  )
}

describe.each(Object.entries(formats) as [Dtype, Format][])('%s', (dtype, { E, M, bias, special }) => {
  const decoded = decodeFloats(dtype, allCodes(dtype))
  it('decodes every code as its definition says', () => {
    const expected = Float32Array.from(decoded, (_, c) => special?.(c) ?? byDefinition(E, M, bias, c))
    expect(decoded.length).toBe(2 ** (1 + E + M))
    let wrong = 0
    for (let c = 0; c < decoded.length; c++) if (!Object.is(decoded[c], expected[c])) wrong++
    expect(wrong).toBe(0)
  })
  it('encodes what it decodes to the same code', () => {
    const real = decoded.map((x) => (Number.isNaN(x) ? 1 : x))
    expect([...decodeFloats(dtype, encodeFloats(dtype, real))]).toEqual([...real])
  })
  it('rounds to the nearest, ties to even', () => {
    const finite = [...decoded].map((value, c) => ({ value, c })).filter(({ value }) => Number.isFinite(value))
    const positive = finite.filter(({ value }) => !Object.is(value, -0) && value >= 0).sort((a, b) => a.value - b.value)
    const nearest = (x: number): number => {
      let best = positive[0]!
      for (const next of positive) {
        const closer = Math.abs(next.value - x) - Math.abs(best.value - x)
        if (closer < 0 || (closer === 0 && next.c % 2 === 0)) best = next
      }
      return best.value
    }
    const top = positive.at(-1)!.value
    const step = Math.max(1, Math.floor(positive.length / 60))
    const values = positive.flatMap(({ value }, i) => {
      const above = positive[i + 1]?.value
      if (above === undefined || i % step > 1) return []
      const middle = (value + above) / 2
      return [middle, middle - (above - value) / 64, middle + (above - value) / 64]
    })
    const input = Float32Array.from([...values, ...values.map((x) => -x)]).filter((x) => Math.abs(x) <= top)
    const output = decodeFloats(dtype, encodeFloats(dtype, pad(input)))
    for (const [i, x] of input.entries()) expect(Math.abs(output[i]!), `${dtype} ${x}`).toBe(nearest(Math.abs(x)))
    for (const [i, x] of input.entries()) if (output[i] !== 0) expect(Math.sign(output[i]!)).toBe(Math.sign(x))
  })
})

/** a length that every packed dtype takes */
const pad = (values: Float32Array): Float32Array => {
  const out = new Float32Array(Math.ceil(values.length / 4) * 4)
  out.set(values)
  return out
}

describe('out of range', () => {
  it('F16 and BF16 go to infinity from half a step above their largest number', () => {
    expect(code('F16', 65519, 65520, -65520, Infinity)).toEqual([0x7bff, 0x7c00, 0xfc00, 0x7c00].flatMap(half))
    expect(code('BF16', 3.3961e38, 3.4e38, -Infinity)).toEqual([0x7f7f, 0x7f80, 0xff80].flatMap(half))
  })
  it('F8_E5M2 goes to infinity, the others to NaN, as torch', () => {
    expect(code('F8_E5M2', 57344, 61439, 61440, -1e9, -Infinity)).toEqual([0x7b, 0x7b, 0x7c, 0xfc, 0xfc])
    expect(code('F8_E4M3', 448, 464, 464.5, -1e9, Infinity)).toEqual([0x7e, 0x7e, 0x7f, 0xff, 0x7f])
    expect(code('F8_E4M3FNUZ', 240, 248, -1e9, Infinity, -0, -1e-9)).toEqual([0x7f, 0x80, 0x80, 0x80, 0, 0])
    expect(code('F8_E5M2FNUZ', 57344, 61440, -Infinity, -0)).toEqual([0x7f, 0x80, 0x80, 0])
  })
  it('F4 and F6 stop at their largest number and refuse NaN', () => {
    expect([...decodeFloats('F4', encodeFloats('F4', Float32Array.of(6, 7, -1e9, Infinity)))]).toEqual([6, 6, -6, 6])
    expect([...decodeFloats('F6_E3M2', encodeFloats('F6_E3M2', Float32Array.of(28, 99, -99, 0)))]).toEqual([
      28, 28, -28, 0,
    ])
    expect(() => encodeFloats('F4', Float32Array.of(1, Number.NaN), { tensor: 'w' })).toThrow(
      'tensor "w": element 1 is NaN, which F4 cannot hold; declare F16, BF16 or F32',
    )
  })
  it('NaN stays NaN', () => {
    for (const dtype of [
      'F16',
      'BF16',
      'F8_E5M2',
      'F8_E4M3',
      'F8_E8M0',
      'F8_E4M3FNUZ',
      'F8_E5M2FNUZ',
      'F64',
      'F32',
    ] as const)
      expect(decodeFloats(dtype, encodeFloats(dtype, Float32Array.of(Number.NaN)))[0], dtype).toBeNaN()
  })
  it('F8_E8M0 is a power of two without sign; ties go up, as torch', () => {
    expect(one('F8_E8M0', 0)).toBe(2 ** -127)
    expect(one('F8_E8M0', 127)).toBe(1)
    expect(one('F8_E8M0', 254)).toBe(2 ** 127)
    expect(one('F8_E8M0', 255)).toBeNaN()
    expect(code('F8_E8M0', 1, 1.49, 1.5, -2, 2 ** -126, 0, 3e38, Infinity)).toEqual([
      127, 127, 128, 128, 1, 0, 255, 255,
    ])
  })
})

describe('against numpy and ml_dtypes', async () => {
  const file = await openSafetensors(
    fromBytes(readFileSync(new URL('fixtures/conversions.safetensors', import.meta.url))),
  )
  const values = await file.floats('values')
  const minis = file.names.flatMap((name) => /^(.*)\.decoded$/.exec(name)?.[1] ?? []) as Dtype[]
  it('has all of them', () => expect(minis).toHaveLength(8))
  it.each(minis)('%s decodes alike', async (dtype) => {
    const want = await file.floats(`${dtype}.decoded`)
    expect([...decodeFloats(dtype, allCodes(dtype))]).toEqual([...want])
  })
  // ml_dtypes rounds F8_E8M0 in its own way and keeps the sign of NaN where torch does not: compare numbers
  it.each(minis.filter((dtype) => dtype !== 'F8_E8M0'))('%s encodes alike', async (dtype) => {
    for (const [input, output] of [
      [values, `${dtype}.encoded`],
      [await file.floats(`${dtype}.ties`), `${dtype}.ties.encoded`],
    ] as const) {
      const finite = input.map((x) => (Number.isNaN(x) ? 0 : x))
      const want = (await file.read(output)).data
      const table = decodeFloats(dtype, allCodes(dtype))
      const got = decodeFloats(dtype, encodeFloats(dtype, pad(finite)))
      for (const [i, x] of input.entries()) if (!Number.isNaN(x)) expect(got[i], `${dtype} ${x}`).toBe(table[want[i]!])
    }
  })
  it.each(['F16', 'BF16'] as const)('%s encodes alike', async (dtype) => {
    const { data } = await file.read(`${dtype}.encoded`)
    expect([...encodeFloats(dtype, values)]).toEqual([...data])
  })
})

describe('integers', () => {
  const all = dtypes.filter(isInteger)
  it('round-trip within the range of each dtype', () =>
    fc.assert(
      fc.property(fc.constantFrom(...all), fc.array(fc.integer({ min: 0, max: 127 })), (dtype, values) => {
        const input = Int32Array.from(values, (x) => (dtype === 'BOOL' ? x % 2 : x))
        const encoded = encodeInts(dtype, input)
        expect(encoded.byteLength).toBe(bytesOf(dtype, input.length))
        expect([...decodeInts(dtype, encoded)]).toEqual([...input])
      }),
    ))
  it('keep their sign', () => {
    for (const dtype of ['I8', 'I16', 'I32', 'I64'] as const)
      expect([...decodeInts(dtype, encodeInts(dtype, Int32Array.of(-1, -128, 127)))]).toEqual([-1, -128, 127])
    expect([...decodeInts('I64', encodeInts('I64', Int32Array.of(-(2 ** 31), 2 ** 31 - 1)))]).toEqual([
      -(2 ** 31),
      2 ** 31 - 1,
    ])
  })
  it('outside int32 are refused by name', () => {
    const wide = (x: bigint): Uint8Array => new Uint8Array(BigInt64Array.of(7n, x).buffer)
    const place = { file: 'm.safetensors', tensor: 'ids' }
    const message = (dtype: Dtype, x: string): string =>
      `m.safetensors: tensor "ids": element 1 of this ${dtype} tensor is ${x}, outside int32; read its bytes instead`
    for (const x of [2n ** 31n, -(2n ** 31n) - 1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 32n])
      expect(() => decodeInts('I64', wide(x), place)).toThrow(message('I64', String(x)))
    expect(() => decodeInts('U64', wide(-1n), place)).toThrow(message('U64', String(2n ** 64n - 1n)))
    expect(() => decodeInts('U64', wide(2n ** 31n), place)).toThrow(message('U64', String(2n ** 31n)))
    expect(() => decodeInts('U32', new Uint8Array(Uint32Array.of(1, 2 ** 31).buffer), place)).toThrow(
      message('U32', String(2 ** 31)),
    )
  })
  it('outside the dtype are refused when written', () => {
    expect(() => encodeInts('U8', Int32Array.of(0, 256), { tensor: 'x' })).toThrow(
      'tensor "x": element 1 is 256, outside U8; declare a wider integer dtype',
    )
    expect(() => encodeInts('U64', Int32Array.of(-1))).toThrow('outside U64')
    expect(() => encodeInts('BOOL', Int32Array.of(2))).toThrow('outside BOOL')
  })
})

describe('sizes', () => {
  it('count elements and refuse what is no shape', () => {
    expect(elementsOf([])).toBe(1)
    expect(elementsOf([2, 0, 3])).toBe(0)
    for (const shape of [[-1], [1.5], [2 ** 53], ['2'], [2 ** 27, 2 ** 27], [null]])
      expect(elementsOf(shape)).toBeUndefined()
  })
  it('count bytes and refuse half ones', () => {
    expect(bytesOf('F4', 6)).toBe(3)
    expect(bytesOf('F4', 5)).toBeUndefined()
    expect(bytesOf('F6_E2M3', 4)).toBe(3)
    expect(bytesOf('F6_E2M3', 6)).toBeUndefined()
    expect(bytesOf('F64', 2 ** 50)).toBeUndefined()
  })
  it('each dtype is floating, integer or complex, and the wrong reader says which is right', () => {
    expect(dtypes).toHaveLength(22)
    for (const dtype of dtypes) {
      const empty = new Uint8Array()
      expect(isFloating(dtype) && isInteger(dtype)).toBe(false)
      if (!isFloating(dtype)) expect(() => decodeFloats(dtype, empty)).toThrow(CheckpointError)
      if (!isInteger(dtype)) expect(() => decodeInts(dtype, empty)).toThrow(CheckpointError)
    }
    expect(() => decodeFloats('I64', new Uint8Array())).toThrow('not a floating one; read it as integers')
    expect(() => decodeFloats('F32', new Uint8Array(5))).toThrow('5 bytes are no whole number of F32 elements')
  })
  it('bytes at any offset are read alike', () => {
    const values = Float32Array.of(1.5, -2, 1024)
    for (const dtype of ['F16', 'BF16', 'F32', 'F64'] as const) {
      const shifted = new Uint8Array(1 + 8 * 3)
      const encoded = encodeFloats(dtype, values)
      shifted.set(encoded, 1)
      expect([...decodeFloats(dtype, shifted.subarray(1, 1 + encoded.length))], dtype).toEqual([1.5, -2, 1024])
    }
  })
})
