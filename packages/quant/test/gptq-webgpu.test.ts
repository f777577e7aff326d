import type { Tensor, Tensor2D } from '@weftjs/spec'
import { cpu, matMul, rng } from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { fromParts } from '@weftjs/weight'
import { beforeAll, describe, expect, it } from 'vitest'
import { gptq } from '../src/index.ts'
import { PRODUCTS } from './gptq-products.ts'

// `npm test` brings a software adapter where there is no GPU
describe.skipIf(!(await hasGpuFiles()))('gptq on webgpu', () => {
  beforeAll(async () => {
    await cpu()
  })
  const OPTIONS = [
    { group: 32, actOrder: true },
    { group: 16, bits: 3, symmetric: false },
  ] as const

  it.each(PRODUCTS.slice(0, 3))('%s: products, gradients and rows are as on cpu', async (_, codec, [c]) => {
    const [out, width] = c!.shape
    await cpu()
    const w = rng(3).normal([out, width]) as Tensor2D
    const parts = codec.encode(w)
    const kept: Record<string, { data: Float32Array | Int32Array; shape: number[]; dtype: string }> = {}
    for (const [name, t] of Object.entries(parts) as [string, Tensor][])
      kept[name] = { data: t.dataSync().slice() as Float32Array, shape: t.shape, dtype: t.dtype }
    const results = async (): Promise<Float32Array[]> => {
      const { tensor, tensor1d, gradients, mul, sum } = await import('@weftjs/tensor')
      const here = Object.fromEntries(
        Object.entries(kept).map(([n, k]) => [n, tensor(k.data, k.shape, k.dtype as 'float32')]),
      )
      const weight = fromParts(codec, here, [out, width])
      const x = rng(1).normal([...c!.rows, width])
      const dy = rng(2).normal([...c!.rows, out])
      const dx = gradients(() => sum(mul(weight.apply(x), dy)), [x]).grads[0]!
      const all = [weight.apply(x), dx, weight.rows!(tensor1d([out - 1, 0], 'int32')), weight.dense()]
      return Promise.all(all.map(async (t) => (await t.data()) as Float32Array))
    }
    const wanted = await results()
    await nodeWebgpu()
    const found = await results()
    for (const [i, want] of wanted.entries()) {
      const most = want.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
      expect(Math.max(...want.map((v, j) => Math.abs(v - found[i]![j]!))) / most, `${i}`).toBeLessThan(1e-5)
    }
  })

  it.each(OPTIONS)('%o: rounds plainly as on cpu, and solves nothing', async (options) => {
    await cpu()
    const codec = gptq(options)
    const wanted = codec.encode(rng(5).normal([24, 64]) as Tensor2D)
    const numbers = Object.fromEntries(Object.entries(wanted).map(([n, t]) => [n, t.dataSync().slice()]))
    await nodeWebgpu()
    const w = rng(5).normal([24, 64]) as Tensor2D
    for (const [name, t] of Object.entries(codec.encode(w))) {
      const found = await t.data()
      if (name === 'scale') expect([...found].every((v, i) => Math.abs(v / numbers[name]![i]! - 1) < 1e-3)).toBe(true)
      else {
        const other = numbers[name]!.filter((v, i) => v !== found[i]).length
        expect(other / found.length, name).toBeLessThan(0.05) // a weight halfway between two values
      }
    }
    const moment = matMul(w, w, true)
    expect(() => codec.encode(w, { rows: 1, batches: 1, get: () => moment })).toThrow(
      /give it to quantize, which waits/,
    )
  })
})
