import { memory } from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { encodeFloats } from '../src/checkpoint/dtype.ts'
import { fromBytes, openSafetensors, toSafetensors } from '../src/checkpoint/index.ts'
import type { ByteSource } from '../src/checkpoint/source.ts'
import { cpu, tensor, wasm } from '../src/index.ts'
import { bytesIn, readTensor, tensorFrom } from '../src/read-tensor.ts'
import { checkRoom } from '../src/room.ts'

type Stored = 'F32' | 'F16' | 'BF16' | 'F64' | 'F8_E4M3'

/** a source that fills what it is given, as a file does */
const filling = (source: ByteSource): ByteSource => ({
  ...source,
  readInto: async (start, target) => target.set(await source.read(start, start + target.byteLength)),
})

const fileOf = (dtype: Stored, bytes: Uint8Array, shape: readonly number[]): ByteSource =>
  fromBytes(toSafetensors({ x: { dtype, shape, data: bytes } }))

describe.each([
  ['wasm', wasm],
  ['cpu', cpu],
] as const)('readTensor on %s', (_, start) => {
  beforeAll(async () => {
    await start()
  })

  it('gives the values that floats() gives, whatever the width and the length', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom<Stored>('F32', 'F16', 'BF16', 'F64', 'F8_E4M3'),
        fc.array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -400, max: 400 }), {
          minLength: 1,
          maxLength: 70,
        }),
        fc.boolean(),
        async (dtype, values, fills) => {
          const shape = [values.length]
          const source = fileOf(dtype, encodeFloats(dtype, Float32Array.from(values)), shape)
          const checkpoint = await openSafetensors(fills ? filling(source) : source)
          const t = await readTensor(checkpoint, 'x', shape)
          expect([...(await t.data())]).toEqual([...(await checkpoint.floats('x'))])
          t.dispose()
        },
      ),
      { numRuns: 60, seed: 3 },
    )
  })

  it('bytes become the same tensor, and a tensor its bytes', async () => {
    const values = Float32Array.from({ length: 12 }, (_, i) => (i - 5) / 4)
    for (const dtype of ['F32', 'F16', 'BF16', 'F64', 'F8_E4M3'] as const) {
      const bytes = new Uint8Array([9, ...encodeFloats(dtype, values)]).subarray(1) // not aligned
      const t = tensorFrom(dtype, bytes, [3, 4])
      expect(t.shape).toEqual([3, 4])
      expect([...(await t.data())]).toEqual([...values])
      expect([...(await bytesIn(t))]).toEqual([...new Uint8Array(values.buffer)])
      t.dispose()
    }
    const ints = tensor([1, -2, 3], [3], 'int32')
    expect([...(await bytesIn(ints))]).toEqual([...new Uint8Array(Int32Array.of(1, -2, 3).buffer)])
    expect(await bytesIn(tensor([], [0], 'float32'))).toHaveLength(0)
    expect(() => tensorFrom('I32', new Uint8Array(4), [1])).toThrow('not a floating one')
  })

  it('keeps every half: subnormal numbers, infinities, signed zeros', async () => {
    const bits = Uint16Array.from([0, 0x8000, 1, 0x83ff, 0x0400, 0x7bff, 0x7c00, 0xfc00, 0x3c00])
    for (const dtype of ['F16', 'BF16'] as const) {
      const checkpoint = await openSafetensors(fileOf(dtype, new Uint8Array(bits.buffer), [9]))
      const t = await readTensor(checkpoint, 'x', [3, 3])
      const [found, wanted] = [await t.data(), await checkpoint.floats('x')]
      expect(Array.from(found, (x, i) => Object.is(x, wanted[i]))).not.toContain(false)
      expect(t.shape).toEqual([3, 3])
      t.dispose()
    }
  })

  it('leaves nothing behind when the file ends early', async () => {
    const source = fileOf('F32', new Uint8Array(400), [100])
    const checkpoint = await openSafetensors({
      ...source,
      read: async (a, b) => {
        if (b > 300) throw new Error('gone')
        return source.read(a, b)
      },
    })
    const before = memory().numTensors
    await expect(readTensor(checkpoint, 'x', [100])).rejects.toThrow(/x.*gone/s)
    expect(memory().numTensors).toBe(before)
  })
})

describe('checkRoom', () => {
  it('refuses more than the wasm heap holds, with the number', async () => {
    await wasm()
    const large = [
      { name: 'embed', elements: 6e8 },
      { name: 'head', elements: 6e8 },
    ]
    expect(() => checkRoom(large)).toThrow(/needs 4\.80 GB.*holds 4\.29 GB/)
    expect(() => checkRoom(large.slice(1))).not.toThrow()
    await cpu()
    expect(() => checkRoom(large)).not.toThrow()
  })
})
