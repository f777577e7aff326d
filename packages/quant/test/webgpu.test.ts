import type { Codec, Tensor2D } from '@weftjs/spec'
import { cpu, rng, tensor, tensor1d } from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { dense, packed } from '@weftjs/weight'
import { beforeAll, describe, expect, it } from 'vitest'
import { affine, bf16, binary, dynamic8, f16, fp4, fp8, int8, nf4, quantize, ternary } from '../src/index.ts'

const SHAPES = [
  [64, 96],
  [5, 27],
  [3, 130],
  [1, 1],
] as const
const CODECS: readonly [string, Codec][] = [
  ['nf4', nf4() as Codec],
  ['nf4 double', nf4({ double: true }) as Codec],
  ['fp4', fp4() as Codec],
  ['int8', int8() as Codec],
  ['dynamic8', dynamic8() as Codec],
  ['bf16', bf16() as Codec],
  ['f16', f16() as Codec],
  ['affine of 4 bits', affine({ group: -1 }) as Codec],
  ['affine of 3 bits', affine({ bits: 3, group: -1 }) as Codec],
  ['affine of 2 bits', affine({ bits: 2, group: 1, symmetric: true }) as Codec],
  ['int8 of a matrix', int8({ per: 'tensor' }) as Codec],
  ['fp8', fp8() as Codec],
  ['fp8 in tiles', fp8({ format: 'e5m2', per: 'block', tile: [4, 20] }) as Codec],
  ['binary', binary() as Codec],
  ['ternary', ternary() as Codec],
  ['ternary, five to a byte', ternary({ pack: 'base3', fit: true }) as Codec],
]
type Found = Record<string, ArrayLike<number>>

/** everything that a codec does, as numbers */
const results = async (codec: Codec): Promise<Found> => {
  const found: Found = {}
  for (const shape of SHAPES) {
    const w = rng(3).normal([...shape]) as Tensor2D
    const parts = codec.encode(w)
    for (const [name, t] of Object.entries(parts)) found[`${shape} ${name}`] = await t.data()
    found[`${shape} decode`] = await codec.decode(parts, shape).data()
    found[`${shape} rows`] = await codec.rows!(parts, shape, tensor1d([shape[0] - 1, 0], 'int32')).data()
    found[`${shape} apply`] = await packed(codec, w)
      .apply(rng(4).normal([2, shape[1]]))
      .data()
  }
  return found
}

// `npm test` brings a software adapter where there is no GPU
describe.skipIf(!(await hasGpuFiles()))('webgpu does as cpu does', () => {
  const wanted = new Map<string, Found>()
  beforeAll(async () => {
    await cpu()
    for (const [name, codec] of CODECS) wanted.set(name, await results(codec))
    await nodeWebgpu()
  })

  it.each(CODECS)('%s: the same codes, and the same numbers', async (name, codec) => {
    const found = await results(codec)
    for (const [key, want] of Object.entries(wanted.get(name)!)) {
      const got = found[key]!
      expect(got.length, key).toBe(want.length)
      // codes are whole words: one that differs would be off by far more
      for (let i = 0; i < want.length; i++)
        expect(Math.abs(got[i]! - want[i]!), key).toBeLessThanOrEqual(1e-5 * (key.endsWith(' q') ? 0 : 1))
    }
  })

  it('finds what is not finite', async () => {
    const values = new Float32Array(100 * 64)
    values[70 * 64 + 3] = Number.NEGATIVE_INFINITY
    const weights = { 'blocks.0.a': dense(tensor(values, [100, 64]) as Tensor2D) }
    await expect(quantize({ config: {}, weights, vectors: {} }, nf4() as Codec)).rejects.toThrow(
      'blocks.0.a: element [70, 3] is -Infinity',
    )
  })
})
