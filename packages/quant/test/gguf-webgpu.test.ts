import type { Codec } from '@weftjs/spec'
import { cpu, gradients, mul, rng, sum, tensor1d } from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { fromParts } from '@weftjs/weight'
import { beforeAll, describe, expect, it } from 'vitest'
import { griddedBlocks } from '../src/gguf/blocks/gridded.ts'
import { loadGgufTypes, blocks as others } from '../src/gguf/blocks/index.ts'
import { gguf } from '../src/gguf.ts'

await loadGgufTypes()
const blocks = [...others, ...griddedBlocks]

/** of random bytes whose float16s are small: two rows of two blocks, or of 256 numbers */
const bytesOf = ({ bytes, size, id }: (typeof blocks)[number], n: number): Int32Array => {
  const words = new Int32Array(Math.ceil(((n / size) * bytes) / 4))
  const all = new Uint8Array(words.buffer)
  rng(id)
    .numbers((n / size) * bytes)
    .forEach((v, i) => {
      // no exponent above 2⁻¹, in whichever byte a float16 or a float32 ends
      all[i] = Math.floor(256 * v) & 0xbf
    })
  return words
}
const PRODUCTS = ['Q8_0', 'Q4_0', 'Q5_1', 'Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K', 'IQ4_NL', 'F16', 'IQ3_XXS', 'IQ1_S']
type Found = { values: Float32Array; rows: Float32Array; y?: Float32Array; dx?: Float32Array }

const results = async (type: string, words: Int32Array, shape: [number, number]): Promise<Found> => {
  const codec = gguf({ type: type as never })
  const q = tensor1d(words, 'int32')
  const found: Found = {
    values: (await codec.decode({ q }, shape).data()) as Float32Array,
    rows: (await codec.rows!({ q }, shape, tensor1d([1, 0, 1], 'int32')).data()) as Float32Array,
  }
  if (!PRODUCTS.includes(type)) return found
  const weight = fromParts(codec as Codec, { q }, shape)
  const x = rng(1).normal([3, shape[1]])
  const dy = rng(2).normal([3, shape[0]])
  const dx = gradients(() => sum(mul(weight.apply(x), dy)), [x]).grads[0]!
  return { ...found, y: (await weight.apply(x).data()) as Float32Array, dx: (await dx.data()) as Float32Array }
}

// `npm test` brings a software adapter where there is no GPU
describe.skipIf(!(await hasGpuFiles()))('gguf on webgpu does as on cpu', () => {
  const wanted = new Map<string, { words: Int32Array; shape: [number, number]; want: Found }>()
  beforeAll(async () => {
    await cpu()
    for (const block of blocks) {
      const shape: [number, number] = [5, Math.max(256, 2 * block.size)]
      const words = bytesOf(block, shape[0] * shape[1])
      wanted.set(block.type, { words, shape, want: await results(block.type, words, shape) })
    }
    await nodeWebgpu()
  })

  it.each(blocks.map((b) => [b.type]))('%s', async (type) => {
    const { words, shape, want } = wanted.get(type)!
    const got = await results(type, words, shape)
    expect(Object.keys(got)).toEqual(Object.keys(want))
    for (const [key, w] of Object.entries(want) as [keyof Found, Float32Array][]) {
      const most = w.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
      expect(most, key).toBeGreaterThan(0)
      expect(Number.isFinite(most), key).toBe(true)
      const odd = w.findIndex((v, i) => !(Math.abs(got[key]![i]! - v) <= 2e-5 * most))
      expect(odd < 0 || [key, odd, got[key]![odd]], `${key} ${odd}: ${w[odd]}`).toBe(true)
    }
  })
})
