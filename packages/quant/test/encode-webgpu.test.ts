import type { Codec, Network, Seen, Tensor, Tensor2D } from '@weftjs/spec'
import { mul, rng, sub, tensor, wasm } from '@weftjs/tensor'
import { fromBytes, openSafetensors, toSafetensors } from '@weftjs/tensor/checkpoint'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { dense } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { packing } from '../src/formats/packing.ts'
import { aqlm, awq, compeft, gguf, gptq, hqq, llmInt8, nf4, outliers, quantize, sensitivity } from '../src/index.ts'

const SHAPE = [16, 256] as const
const NAME = 'blocks.0.mlp.up'
const CODECS: Readonly<Record<string, Codec<any>>> = {
  gptq: gptq({ group: 32 }),
  'gptq in order of activity': gptq({ group: 32, actOrder: true }),
  aqlm: aqlm({ codebooks: 1, bits: 4, rounds: 1, steps: 2 }),
  outliers: outliers({ share: 0.01 }),
  'outliers by error in nf4': outliers({ share: 0.01, by: 'error', weigh: 'moment', of: nf4() as Codec }),
  'llm-int8': llmInt8({ threshold: 3 }),
  gguf: gguf(),
  'gguf by importance': gguf({ importance: true }),
  compeft: compeft(),
  hqq: hqq(),
  'awq, clipped': awq({ clip: true }),
}
type Bytes = Readonly<Record<string, readonly number[]>>

/** the same numbers wherever they are made */
const values = (shape: readonly number[], seed: number): Float32Array =>
  Float32Array.from(rng(seed).numbers(shape.reduce((n, d) => n * d, 1)), (u) => Math.fround((2 * u - 1) ** 3))
/** as what has been computed there, which only the device knows */
const there = (v: Float32Array, shape: readonly number[]): Tensor => mul(tensor(v, [...shape]), 1)
const network = (): Network<object> => ({
  config: {},
  vectors: {},
  weights: { [NAME]: dense(there(values(SHAPE, 1), SHAPE) as Tensor2D) },
})
const ROWS = 32
/** of some rows, computed here: sums of a GPU are others in the last bit, and what a solver makes of them may be far off */
const seen = (): Seen => {
  const [x, width] = [values([ROWS, SHAPE[1]], 2), SHAPE[1]]
  const moment = new Float32Array(width * width)
  const peak = new Float32Array(width)
  for (let r = 0; r < ROWS; r++)
    for (let i = 0; i < width; i++) {
      const v = x[r * width + i]!
      peak[i] = Math.max(peak[i]!, Math.abs(v))
      for (let j = 0; j < width; j++) moment[i * width + j]! += (v * x[r * width + j]!) / ROWS
    }
  const square = Float32Array.from({ length: width }, (_, i) => moment[i * (width + 1)]!)
  const all = {
    ...{ moment: there(moment, [width, width]), square: there(square, [width]), peak: there(peak, [width]) },
  }
  return { rows: ROWS, batches: 1, get: (s) => all[s as keyof typeof all] }
}

const packedOf = async (codec: Codec<any>): Promise<Bytes> => {
  const given = network()
  const { weights } = await quantize(given, codec, { see: async () => ({ [NAME]: seen() }) })
  const found: Record<string, readonly number[]> = {}
  for (const [part, t] of Object.entries(weights[NAME]!.parts)) found[part] = [...(await t.data())]
  // what was read is still where it was
  found['matrix'] = [...(await sub(given.weights[NAME]!.parts['weight']!, 0).data())]
  found['y'] = [...(await weights[NAME]!.apply(there(values([3, SHAPE[1]], 3), [3, SHAPE[1]])).data())]
  return found
}

// `npm test` brings a software adapter where there is no GPU
describe.skipIf(!(await hasGpuFiles()))('codecs that read numbers at once, on a GPU that cannot be read so', () => {
  it.each(Object.entries(CODECS))('%s: quantize gives what it gives on wasm', async (_, codec) => {
    await wasm()
    const wanted = await packedOf(codec)
    await nodeWebgpu()
    const found = await packedOf(codec)
    for (const [part, want] of Object.entries(wanted)) {
      const got = found[part]!
      expect(got.length, part).toBe(want.length)
      const most = want.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
      const off = part === 'y' ? 1e-5 * most : 0
      expect(want.filter((v, i) => Math.abs(v - got[i]!) > off).length, part).toBe(0)
    }
  })

  it('packing reads a checkpoint into them; sensitivity measures them', async () => {
    const data = Buffer.from(values(SHAPE, 1).buffer)
    const file = await openSafetensors(
      fromBytes(toSafetensors({ up: { dtype: 'F32', shape: [...SHAPE], data } }), 'made'),
    )
    const both = async (): Promise<number[]> => {
      const weight = (await packing(gguf())(file, 'up', SHAPE, {}, { name: NAME }))!
      const found = await sensitivity(network(), [gguf(), outliers()], { seen: { [NAME]: seen() }, relative: true })
      return [...(await weight.parts['q']!.data()), ...found.map((f) => f.loss)]
    }
    await wasm()
    const wanted = await both()
    await nodeWebgpu()
    const found = await both()
    expect(found.length).toBe(wanted.length)
    for (const [i, want] of wanted.entries()) expect(Math.abs(found[i]! / want - 1)).toBeLessThan(1e-4)
    expect(wanted.at(-1)).toBeGreaterThan(0)
  })

  it('encode by hand says that it cannot', async () => {
    await nodeWebgpu()
    const w = there(values(SHAPE, 1), SHAPE) as Tensor2D
    expect(() => outliers().encode(w)).toThrow()
  })
})
