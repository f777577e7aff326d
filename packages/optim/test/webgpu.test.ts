import type { Params, Scalar } from '@weftjs/spec'
import { crossEntropy, fill, gatherRows, linear, peakBytes, rng, silu, tensor1d, wasm } from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { expect, it } from 'vitest'
import { adamw, chain, clipByGlobalNorm, train } from '../src/index.ts'

const [V, D, N] = [60, 16, 12]
const loss = ({ embed, w }: Params, ids: number[]): Scalar => {
  const hidden = silu(linear(gatherRows(embed!, tensor1d(ids, 'int32')), w!))
  return crossEntropy(hidden, embed!, tensor1d([...ids.slice(1), ids[0]!], 'int32'), fill([N], 1 / N)) as Scalar
}

it.skipIf(!(await hasGpuFiles()))(
  "a run on WebGPU follows the one on wasm, each loss its own step's, memory flat",
  async () => {
    const run = async (): Promise<{ losses: number[]; memory: Set<string> }> => {
      const [losses, memory]: [number[], Set<string>] = [[], new Set()]
      const data = Array.from({ length: 24 }, (_, i) => Array.from(rng(i).numbers(N), (u) => Math.floor(u * V)))
      const params = { embed: rng(1).normal([V, D], 0.3), w: rng(2).normal([D, D], 0.3) }
      const transform = chain(clipByGlobalNorm(1), adamw({ lr: 0.01 }))
      for await (const s of train({ params, data, loss, transform, accumulate: 2, consume: true })) {
        losses.push(s.loss)
        if (s.step > 1) memory.add(`${s.tensors} tensors, ${s.bytes} bytes, ${peakBytes().now} of data`)
      }
      return { losses, memory }
    }
    await wasm()
    const { losses } = await run()
    await nodeWebgpu()
    const found = await run()
    found.losses.forEach((v, i) => {
      expect(Math.abs(v - losses[i]!), `step ${i}`).toBeLessThan(1e-4)
    })
    expect(found.losses).toHaveLength(12)
    expect([...found.memory]).toHaveLength(1)
  },
)
