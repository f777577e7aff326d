import type { Codec, Params, Tensor2D } from '@weftjs/spec'
import { cpu, gradients, mul, rng, sum, tensor, tensor1d } from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { fromParts } from '@weftjs/weight'
import { beforeAll, describe, expect, it } from 'vitest'
import { affine, fp4, llmInt8, outliers } from '../src/index.ts'

const SHAPE = [36, 132] as const
// what these choose by the numbers is chosen on the CPU, and runs on a GPU
const CODECS: readonly [string, Codec][] = [
  ['llm-int8', llmInt8({ threshold: 3 }) as Codec],
  ['outliers', outliers({ of: affine({ bits: 3, group: -1 }), share: 0.02 }) as Codec],
  ['outliers of fp4', outliers({ of: fp4(), share: 0.02 }) as Codec],
]

const results = async (codec: Codec, parts: Params): Promise<ArrayLike<number>[]> => {
  const w = fromParts(codec, parts, SHAPE)
  const x = rng(1).normal([2, 5, SHAPE[1]])
  const dy = rng(2).normal([2, 5, SHAPE[0]])
  const dx = gradients(() => sum(mul(w.apply(x), dy)), [x]).grads[0]!
  const found = [w.apply(x), dx, w.rows!(tensor1d([35, 0], 'int32')), w.dense()]
  return Promise.all(found.map((t) => t.data()))
}

describe.skipIf(!(await hasGpuFiles()))('what is kept apart, on webgpu as on cpu', () => {
  const made = new Map<
    string,
    { parts: Record<string, [ArrayLike<number>, number[], 'float32' | 'int32']>; wanted: ArrayLike<number>[] }
  >()
  beforeAll(async () => {
    await cpu()
    for (const [name, codec] of CODECS) {
      const parts = codec.encode(rng(3).normal([...SHAPE]) as Tensor2D)
      const plain = Object.entries(parts).map(([part, t]) => [part, [t.dataSync().slice(), [...t.shape], t.dtype]])
      made.set(name, { parts: Object.fromEntries(plain), wanted: await results(codec, parts) })
    }
    await nodeWebgpu()
  })

  it.each(CODECS)('%s: product, gradient, rows and matrix', async (name, codec) => {
    const { parts, wanted } = made.get(name)!
    const here = Object.entries(parts).map(([part, [values, shape, dtype]]) => [
      part,
      tensor(values as never, shape, dtype),
    ])
    const found = await results(codec, Object.fromEntries(here))
    for (const [i, want] of wanted.entries()) {
      const most = Array.from(want).reduce((a, b) => Math.max(a, Math.abs(b)), 0)
      expect(found[i]!.length).toBe(want.length)
      for (let j = 0; j < want.length; j++)
        expect(Math.abs(found[i]![j]! - want[j]!), `${i} ${j}`).toBeLessThanOrEqual(1e-5 * most)
    }
  })
})
