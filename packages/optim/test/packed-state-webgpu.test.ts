import { dynamic8, state4 } from '@weftjs/quant'
import { rng, type Scalar, square, sub, sum, wasm } from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { expect, it } from 'vitest'
import { adamw, packedState, type StateCodec, train } from '../src/index.ts'

const CODECS: Record<string, StateCodec> = {
  '8 bits': (moment) => dynamic8({ signed: moment !== 'v' }),
  '4 bits': (moment) => (moment === 'v' ? state4({ signed: false, scale: 'rank1' }) : state4()),
}

it.skipIf(!(await hasGpuFiles()))('packed states on WebGPU follow those on wasm, memory flat', async () => {
  const run = async (codec: StateCodec): Promise<{ losses: number[]; memory: Set<string> }> => {
    const [losses, memory]: [number[], Set<string>] = [[], new Set()]
    const goal = rng(2).normal([80, 64])
    for await (const s of train({
      params: { w: rng(1).normal([80, 64]) },
      data: Array.from({ length: 12 }, (_, i) => i),
      loss: ({ w }) => sum(square(sub(w!, goal))) as Scalar,
      transform: packedState(adamw({ lr: 0.1 }), { codec }),
    })) {
      losses.push(s.loss)
      if (s.step > 1) memory.add(`${s.tensors} tensors, ${s.bytes} bytes`)
    }
    return { losses, memory }
  }
  const wanted: Record<string, number[]> = {}
  await wasm()
  for (const [name, codec] of Object.entries(CODECS)) wanted[name] = (await run(codec)).losses
  await nodeWebgpu()
  for (const [name, codec] of Object.entries(CODECS)) {
    const { losses, memory } = await run(codec)
    losses.forEach((v, i) => {
      expect(Math.abs(v / wanted[name]![i]! - 1), `${name}, step ${i}`).toBeLessThan(1e-3)
    })
    expect([...memory], name).toHaveLength(1)
  }
})
