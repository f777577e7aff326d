import type { Codec, Config, Network, Tensor2D, Weight } from '@weftjs/spec'
import { cpu, rng, wasm } from '@weftjs/tensor'
import {
  fromBytes,
  openSafetensors,
  type TensorBytes,
  type TensorSource,
  toSafetensors,
} from '@weftjs/tensor/checkpoint'
import { dense, packed } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { bitsPerWeight, fromPacked, int8, nf4, packedWriter } from '../src/index.ts'

const NAMES = ['q', 'k'].map((n) => ({ name: `blocks.0.attn.${n}`, hf: `model.layers.0.${n}_proj.weight` }))
const networkOf = (codecs: readonly Codec<any>[]): Network<object> => ({
  config: {},
  weights: Object.fromEntries(
    NAMES.map(({ name }, i) => [name, packed(codecs[i]!, rng(i).normal([32, 64]) as Tensor2D)]),
  ),
  vectors: {},
})
const written = async (
  network: Network<object>,
  layout?: string,
): Promise<{ tensors: TensorSource[]; config: Config }> => {
  const writer = (await packedWriter(network, NAMES, layout))!
  return {
    tensors: NAMES.flatMap(({ hf, name }) => [...(writer.tensors(hf, network.weights[name]!) ?? [])]),
    config: writer.config,
  }
}
const read = async (
  tensors: readonly TensorSource[],
  config: Config,
  at = 0,
  shape: [number, number] = [32, 64],
): Promise<Weight | undefined> => {
  const bytes: Record<string, TensorBytes> = {}
  for (const { name, data, ...rest } of tensors) {
    const made = typeof data === 'function' ? await data() : data
    bytes[name] = { ...rest, data: made as Uint8Array }
  }
  const checkpoint = await openSafetensors(fromBytes(toSafetensors(bytes), 'model.safetensors'))
  return fromPacked(checkpoint, NAMES[at]!.hf, shape, config)
}

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('layouts of packed weights on %s', (_, backend) => {
  it('each layout gives back what it was given', async () => {
    await backend()
    for (const [codecs, method] of [
      [[nf4({ double: true }), nf4({ double: true })], 'bitsandbytes'],
      [[nf4(), int8()], 'weft'],
      [[nf4(), nf4({ block: 128 })], 'weft'],
    ] as const) {
      const network = networkOf(codecs)
      const { tensors, config } = await written(network)
      expect((config['quantization_config'] as Config)['quant_method']).toBe(method)
      for (const [i, { name }] of NAMES.entries()) {
        const back = (await read(tensors, config, i))!
        expect(back.format).toBe(codecs[i]!.name)
        expect(await back.dense().data()).toEqual(await network.weights[name]!.dense().data())
      }
    }
  })
  it('a layout can be asked for by name, and a wrong one is refused', async () => {
    await backend()
    const network = networkOf([nf4(), nf4()])
    const { tensors, config } = await written(network, 'weft')
    expect((await read(tensors, config))!.format).toBe('nf4')
    await expect(written(networkOf([nf4(), int8()]), 'bitsandbytes')).rejects.toThrow(/cannot hold both nf4.*and int8/)
    await expect(written(network, 'gptx')).rejects.toThrow(/no layout 'gptx'; there are .*bitsandbytes/)
    const none = { config: {}, weights: { a: dense(rng(0).normal([2, 2]) as Tensor2D) }, vectors: {} }
    expect(await packedWriter(none, [])).toBeUndefined()
  })
  it('what is missing, of another kind or unknown is refused by name', async () => {
    await backend()
    const { tensors, config } = await written(networkOf([nf4(), int8()]))
    const hf = NAMES[0]!.hf
    const without = tensors.filter((t) => t.name !== `${hf}.absmax`)
    await expect(read(without, config)).rejects.toThrow(/q_proj.weight.*has no 'absmax' beside it/)
    await expect(read(tensors, config, 0, [32, 128])).rejects.toThrow(/'q' is I32 \[256\] where nf4 needs I32 \[512\]/)
    const stored = config['quantization_config'] as { codecs: { name: string }[] }
    const odd = { quantization_config: { ...stored, codecs: [{ name: 'constructor' }] } }
    await expect(read(tensors, odd)).rejects.toThrow(/there is no codec 'constructor'/)
    const bad = { quantization_config: { ...stored, codecs: [{ name: 'nf4', options: { block: 3 } }] } }
    await expect(read(tensors, bad)).rejects.toThrow(/block must be 32/)
  })
})

it('bits are counted by the layout', () => {
  expect(bitsPerWeight(nf4(), [256, 256])).toBe(4.5)
  expect(bitsPerWeight(nf4({ double: true }), [256, 256])).toBeCloseTo(4.127 + 32 / 65536, 3)
  expect(bitsPerWeight(int8(), [256, 256])).toBe(8 + 32 / 256)
})
