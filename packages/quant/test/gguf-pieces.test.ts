import { memory, tensor, wasm } from '@weftjs/tensor'
import { encodeFloats, fromBytes, openSafetensors, toSafetensors } from '@weftjs/tensor/checkpoint'
import fc from 'fast-check'
import { beforeAll, expect, it } from 'vitest'
import { converted, regrouped } from '../src/gguf/tensors-out.ts'
import { checkpointSources, gguf } from '../src/index.ts'

beforeAll(async () => {
  await wasm()
})

const all = async (chunks: AsyncIterable<Uint8Array>): Promise<Buffer> => {
  const found: Buffer[] = []
  for await (const chunk of chunks) found.push(Buffer.from(new Uint8Array(chunk)))
  return Buffer.concat(found)
}

it('pieces are whole units of the same bytes, however they come, and a reused buffer is no harm', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 12 }),
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 0, max: 20 }),
      async (sizes, unit, beyond) => {
        const n = sizes.reduce((a, b) => a + b, 0)
        const bytes = Uint8Array.from({ length: n }, (_, i) => i % 251)
        const source = function* (): Generator<Uint8Array> {
          const buffer = new Uint8Array(50)
          let at = 0
          for (const size of sizes) {
            buffer.fill(0)
            buffer.set(bytes.subarray(at, at + size))
            yield buffer.subarray(0, size)
            at += size
          }
        }
        const size = Math.max(0, n - beyond)
        const lengths: number[] = []
        const watched = async function* (): AsyncGenerator<Uint8Array> {
          for await (const piece of regrouped(source, unit, size)) {
            lengths.push(piece.length)
            yield piece
          }
        }
        expect((await all(watched())).equals(Buffer.from(bytes.subarray(0, size)))).toBe(true)
        expect(lengths.slice(0, -1).every((l) => l > 0 && l % unit === 0)).toBe(true)
      },
    ),
    { numRuns: 100, seed: 5 },
  )
})

it.each(['F32', 'BF16', 'F64'] as const)('blocks made of %s in pieces are those of the whole matrix', async (dtype) => {
  // rows of 2304 bytes: the pieces that are read, 4 MB, end within none
  const [rows, width] = [2100, 576]
  const values = Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i * 12.9898) * ((i % 97) + 1))
  const data = encodeFloats(dtype, values)
  const checkpoint = await openSafetensors(fromBytes(toSafetensors({ w: { dtype, shape: [rows, width], data } })))
  const [source] = checkpointSources(checkpoint)
  const before = memory().numTensors
  const c = { name: 'w', dtype, shape: [rows, width], type: 'Q8_0', shift: 0 } as const
  const made = await all(converted(source!.data, c))
  expect(memory().numTensors).toBe(before)
  const { q } = gguf({ type: 'Q8_0' }).encode(tensor(await checkpoint.floats('w'), [rows, width]) as never)
  const words = (await q.data()) as Int32Array
  expect(made.equals(Buffer.from(words.buffer, words.byteOffset, (rows * width * 34) / 32))).toBe(true)
  q.dispose()

  values[values.length - 1] = Number.NaN
  const odd = { w: { dtype, shape: [rows, width], data: encodeFloats(dtype, values) } }
  const [bad] = checkpointSources(await openSafetensors(fromBytes(toSafetensors(odd))))
  const tensors = memory().numTensors
  await expect(all(converted(bad!.data, c))).rejects.toThrow(
    `w: element ${values.length - 1} is NaN, which Q8_0 cannot hold`,
  )
  expect(memory().numTensors).toBe(tensors)
})
