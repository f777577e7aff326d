import type { Codec, Config, Network, Tensor2D, Weight } from '@weftjs/spec'
import { cpu, rng, tensor, tidy, wasm } from '@weftjs/tensor'
import {
  fromBytes,
  openSafetensors,
  type TensorBytes,
  type TensorSource,
  toSafetensors,
} from '@weftjs/tensor/checkpoint'
import { dense, packed } from '@weftjs/weight'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { fp8, fromPacked, packedWriter } from '../src/index.ts'
import { bytes, fixture, floats } from './fixtures.ts'

const PER = { tensor: { per: 'tensor' }, row: { per: 'row' }, block: { per: 'block', tile: [5, 20] } } as const
const HF = 'model.layers.0.q.weight'
const NAMES = [
  { name: 'blocks.0.q', hf: HF },
  { name: 'blocks.0.k', hf: 'model.layers.0.k.weight' },
]

const network = (codec: Codec, w: Tensor2D): Network<object> => ({
  config: {},
  weights: { 'blocks.0.q': packed(codec, w), 'blocks.0.k': dense(w) },
  vectors: {},
})
const loaded = async (sources: readonly (TensorSource | (TensorBytes & { name: string }))[]) => {
  const all: Record<string, TensorBytes> = {}
  for (const { name, data, ...rest } of sources)
    all[name] = { ...rest, data: (typeof data === 'function' ? await data() : data) as Uint8Array }
  return openSafetensors(fromBytes(toSafetensors(all), 'model.safetensors'))
}
const f32 = (values: readonly number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer)

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('8-bit floats on %s', (_, start) => {
  beforeAll(async () => {
    await start()
  })

  it.each(['e4m3', 'e5m2'] as const)(
    '%s: every number, every half and what is next to it is cast as torch casts it',
    async (format) => {
      const file = await fixture('fp8-casts')
      const w = await floats<Tensor2D>(file, `${format}.input`)
      const codec = fp8({ format, per: 'tensor' })
      const parts = codec.encode(w)
      expect(parts.scale.dataSync()[0]).toBe(1)
      expect(bytes(parts.q, w.size)).toEqual((await file.read(`${format}.codes`)).data)
      expect(codec.decode(parts, w.shape).dataSync()).toEqual(await file.floats(`${format}.decoded`))
    },
  )

  it.each(Object.keys(PER) as (keyof typeof PER)[])('by %s: the codes, scales and numbers of torch', async (per) => {
    const [inputs, file] = [await fixture('plain-inputs'), await fixture('fp8')]
    for (const name of ['normal', 'odd'])
      for (const format of ['e4m3', 'e5m2'] as const) {
        const w = await floats<Tensor2D>(inputs, name)
        const codec = fp8({ format, ...PER[per] })
        const parts = codec.encode(w)
        const key = `${name}.${format}.${per}`
        expect(parts.scale.dataSync(), key).toEqual(await file.floats(`${key}.scale`))
        expect(bytes(parts.q, w.size), key).toEqual((await file.read(`${key}.codes`)).data)
        expect(codec.decode(parts, w.shape).dataSync(), key).toEqual(await file.floats(`${key}.decoded`))
      }
  })

  it('golden bytes: 448, 1, a half of the least number, a tie', () => {
    const w = tensor([448, 1, 2 ** -10, -1.0625, 0, -448, 2 ** -9, 17], [1, 8]) as Tensor2D
    const { q } = fp8().encode(w)
    // 2⁻¹⁰ lies halfway between 0 and 2⁻⁹, -1.0625 between 1 and 1.125, 17 between 16 and 18: to the even ones
    expect([...bytes(q, 8)]).toEqual([0x7e, 0x38, 0x00, 0xb8, 0x00, 0xfe, 0x01, 0x58])
  })

  it('the error is at most half a step: a 16th of the number, or 2⁻¹⁰ of the scale', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 70 }), fc.integer(), (out, width, seed) =>
        tidy(() => {
          const w = rng(seed).normal([out, width]) as Tensor2D
          const codec = fp8()
          const parts = codec.encode(w)
          const [x, y, s] = [w.dataSync(), codec.decode(parts, w.shape).dataSync(), parts.scale.dataSync()]
          return x.every((v, i) => {
            const least = s[Math.floor(i / width)]! * 2 ** -10
            return Math.abs(v - y[i]!) <= Math.max(Math.abs(v) / 16, least) * 1.00001
          })
        }),
      ),
      { seed: 3, numRuns: 40 },
    )
  })

  it.each([
    [{ per: 'block', tile: [8, 16] } as const, 'fp8', 'weight_scale_inv', [3, 3]],
    [{ per: 'row' } as const, 'compressed-tensors', 'weight_scale', [20, 1]],
    [{ per: 'tensor' } as const, 'compressed-tensors', 'weight_scale', [1]],
  ])('%j is written as %s has it, and read again', async (options, method, key, shape) => {
    const w = rng(4).normal([20, 40]) as Tensor2D
    const net = network(fp8(options) as Codec, w)
    const writer = (await packedWriter(net, NAMES))!
    const found = writer.config['quantization_config'] as Config
    expect(found['quant_method']).toBe(method)
    expect(found[method === 'fp8' ? 'modules_to_not_convert' : 'ignore']).toEqual(['lm_head', 'model.layers.0.k'])
    const sources = writer.tensors(HF, net.weights['blocks.0.q']!)!
    expect(sources.map(({ name, dtype, shape }) => [name, dtype, [...shape]])).toEqual([
      [HF, 'F8_E4M3', [20, 40]],
      [`model.layers.0.q.${key}`, 'F32', shape],
    ])
    expect(writer.tensors(NAMES[1]!.hf, net.weights['blocks.0.k']!)).toBeUndefined()
    const back = (await fromPacked(await loaded(sources), HF, [20, 40], writer.config))!
    expect(back.codec!.options).toEqual(fp8(options).options)
    expect(back.dense().dataSync()).toEqual(net.weights['blocks.0.q']!.dense().dataSync())
  })

  it('e5m2, and codecs that differ, are kept in our own layout', async () => {
    const w = rng(5).normal([8, 16]) as Tensor2D
    const method = async (a: Codec, b: Codec): Promise<unknown> => {
      const weights = { 'blocks.0.q': packed(a, w), 'blocks.0.k': packed(b, w) }
      const writer = (await packedWriter({ config: {}, weights, vectors: {} }, NAMES))!
      return (writer.config['quantization_config'] as Config)['quant_method']
    }
    expect(await method(fp8() as Codec, fp8() as Codec)).toBe('compressed-tensors')
    expect(await method(fp8({ format: 'e5m2' }) as Codec, fp8({ format: 'e5m2' }) as Codec)).toBe('weft')
    expect(await method(fp8() as Codec, fp8({ per: 'tensor' }) as Codec)).toBe('weft')
  })

  it('what does not fit is refused by name', async () => {
    const weight = { name: HF, dtype: 'F8_E4M3' as const, shape: [2, 4], data: new Uint8Array(8).fill(0x38) }
    const scale = (shape: number[], values: number[], dtype: 'F32' | 'F8_E8M0' = 'F32') => ({
      name: 'model.layers.0.q.weight_scale_inv',
      dtype,
      shape,
      data: dtype === 'F32' ? f32(values) : Uint8Array.from(values),
    })
    const read = async (
      sources: readonly (TensorBytes & { name: string })[],
      config: Config = {},
      shape: [number, number] = [2, 4],
    ): Promise<Weight | undefined> => fromPacked(await loaded(sources), HF, shape, config)
    const blocks = (size: unknown): Config => ({ quantization_config: { weight_block_size: size } })
    expect(await read([weight])).toBeUndefined()
    expect((await read([weight, scale([], [3])]))!.dense().dataSync()).toEqual(new Float32Array(8).fill(3))
    // scales of 2^(code − 127), as DeepSeek's later files have them
    const tiled = (await read([weight, scale([1, 2], [128, 126], 'F8_E8M0')], blocks([128, 2])))!
    expect([...tiled.dense().dataSync()]).toEqual([2, 2, 0.5, 0.5, 2, 2, 0.5, 0.5])
    await expect(read([weight, scale([1, 2], [1, 1])])).rejects.toThrow(
      /weight_scale_inv.*is \[1,2\].*gives no weight_block_size/,
    )
    await expect(read([weight, scale([3, 2], [1, 1, 1, 1, 1, 1])], blocks([1, 2]))).rejects.toThrow(
      /or \[2,2\], tiles of \[1,2\]/,
    )
    await expect(read([weight, scale([3, 1], [1, 1, 1])], blocks(['x', -1]))).rejects.toThrow(
      /is \[3,1\] where \[1\], \[2, 1\]/,
    )
    await expect(read([weight, scale([2, 1], [1, Number.NaN])])).rejects.toThrow(/scale 1 is NaN/)
    await expect(read([weight, scale([1], [1])], {}, [4, 2])).rejects.toThrow(/is \[2,4\] where \[4,2\]/)
    const bad = { ...weight, data: Uint8Array.from([0, 0, 0, 0, 0, 0xff, 0, 0]) }
    await expect(read([bad, scale([1], [1])])).rejects.toThrow(/q\.weight.*element \[1, 1\] is no finite number/)
    const five = { ...weight, dtype: 'F8_E5M2' as const, data: Uint8Array.from([0, 0, 0x7c, 0, 0, 0, 0, 0]) }
    await expect(read([five, scale([1], [1])])).rejects.toThrow(/element \[0, 2\]/)
  })

  it('scales of any shape and any tiles end in a weight or an error that names the tensor', async () => {
    const side = fc.integer({ min: 0, max: 6 })
    await fc.assert(
      fc.asyncProperty(
        fc.array(side, { maxLength: 3 }),
        fc.anything(),
        fc.uint8Array({ minLength: 24, maxLength: 24 }),
        async (shape, size, data) => {
          const n = shape.reduce((a, b) => a * b, 1)
          const sources = [
            { name: HF, dtype: 'F8_E4M3' as const, shape: [4, 6], data },
            { name: 'model.layers.0.q.weight_scale', dtype: 'F32' as const, shape, data: f32(new Array(n).fill(0.5)) },
          ]
          const config = { quantization_config: { weight_block_size: size, config_groups: { a: size } } }
          try {
            const w = (await fromPacked(await loaded(sources), HF, [4, 6], config))!
            expect(w.dense().dataSync().every(Number.isFinite)).toBe(true)
          } catch (error) {
            expect((error as Error).name).toBe('CheckpointError')
          }
        },
      ),
      { seed: 8, numRuns: 200 },
    )
  })
})

it('options that are none are refused', () => {
  expect(() => fp8({ format: 'e3m4' as never })).toThrow(/format must be 'e4m3' or 'e5m2', found "e3m4"/)
  expect(() => fp8({ per: 'column' as never })).toThrow(/per must be/)
  expect(() => fp8({ per: 'block', tile: [0, 1] })).toThrow(/tile must be two whole numbers/)
})
