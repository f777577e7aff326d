import { attach, loadNetwork, namesOf, saveNetwork } from '@weftjs/model'
import type { Codec, Tensor2D } from '@weftjs/spec'
import { add, cpu, linear, rng, tensor } from '@weftjs/tensor'
import { fromFile, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import {
  blobFolder,
  blobSink,
  type Checkpoint,
  fromBytes,
  openSafetensors,
  type TensorBytes,
  toSafetensors,
} from '@weftjs/tensor/checkpoint/index'
import { packed } from '@weftjs/weight'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { bnbWriter, dynamic8, fp4, fromBnb, int8, nf4, quantizationConfig, quantize, toBnb } from '../src/index.ts'
import { fixture, floats } from './fixtures.ts'

beforeAll(async () => {
  await cpu()
})

const written = async (...args: Parameters<typeof toBnb>): Promise<Record<string, TensorBytes>> => {
  const found: Record<string, TensorBytes> = {}
  for (const { name, dtype, shape, data } of await toBnb(...args)) {
    const made = typeof data === 'function' ? await data() : data
    found[name] = { dtype, shape, data: (made as Uint8Array).slice() }
  }
  return found
}
const everything = async (file: Checkpoint): Promise<Record<string, TensorBytes>> =>
  Object.fromEntries(await Promise.all(file.names.map(async (n) => [n, await file.read(n)] as const)))

const STORED: [string, Codec, readonly [number, number]][] = [
  ['stored-nf4', nf4(), [64, 96]],
  ['stored-nf4-double', nf4({ double: true }), [96, 192]],
  ['stored-int8', int8(), [64, 96]],
]

describe('a layer that bitsandbytes stored', () => {
  it.each(STORED)('%s: read and written again, byte for byte', async (name, codec, shape) => {
    const file = await fixture(name)
    const weight = (await fromBnb(file, 'proj.weight', shape))!
    expect(weight.format).toBe(codec.name)
    const { 'proj.bias': _, ...want } = await everything(file)
    const got = await written('proj.weight', weight, codec)
    expect(Object.keys(got).sort()).toEqual(Object.keys(want).sort())
    for (const [key, { dtype, shape, data }] of Object.entries(want)) {
      expect([key, got[key]!.dtype, got[key]!.shape]).toEqual([key, dtype, shape])
      expect(Buffer.from(got[key]!.data).equals(Buffer.from(data)), key).toBe(true)
    }
  })

  it.each(STORED.slice(0, 2))('%s: gives the same output', async (name, _codec, shape) => {
    const file = await fixture(name)
    const expected = await fixture(`${name}.expected`)
    const weight = (await fromBnb(file, 'proj.weight', shape))!
    const y = add(linear(await floats(expected, 'input'), weight.dense()), await floats(file, 'proj.bias'))
    const want = await expected.floats('output')
    y.dataSync().forEach((v, i) => {
      expect(v).toBeCloseTo(want[i]!, 5)
    })
  })

  it('plain NF4, encoded here, is the same file to the byte', async () => {
    const w = await floats<Tensor2D>(await fixture('inputs'), 'normal')
    const got = await written('proj.weight', packed(nf4() as Codec, w), nf4() as Codec)
    const want = await everything(await fixture('stored-nf4'))
    for (const [key, { data }] of Object.entries(got))
      expect(Buffer.from(data).equals(Buffer.from(want[key]!.data)), key).toBe(true)
  })

  it('is none where the tensor is plain', async () => {
    expect(await fromBnb(await fixture('inputs'), 'normal', [64, 96])).toBeUndefined()
  })
})

describe('any weight', () => {
  it('comes back from its file as it went in', () =>
    fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 70 }),
        fc.constantFrom(
          nf4(),
          nf4({ block: 32, double: true, doubleBlock: 32 }),
          nf4({ double: true }),
          fp4({ block: 128 }),
          int8(),
        ),
        async (out, input, codec) => {
          const w = rng(out * 100 + input).normal([out, input], 1e-3) as Tensor2D
          const weight = packed(codec as Codec, w)
          const file = await openSafetensors(
            fromBytes(toSafetensors(await written('p.weight', weight, codec as Codec)), 'made'),
          )
          const back = (await fromBnb(file, 'p.weight', [out, input]))!
          expect(back.dense().dataSync()).toEqual(weight.dense().dataSync())
        },
      ),
      { numRuns: 60 },
    ))
})

describe('a checkpoint', () => {
  const folder = new URL('../../testkit/fixtures/models/llama3-nf4', import.meta.url).pathname

  it('of transformers with bitsandbytes loads, runs as there, and is written as it was read', async () => {
    const network = await loadNetwork(nodeFolder(folder), { packed: fromBnb })
    expect(network.weights['blocks.0.attn.q']!.format).toBe('nf4')
    const ref = await openSafetensors(await fromFile(`${folder}/reference.safetensors`))
    const ids = tensor(await ref.ints('input_ids'), ref.entry('input_ids').shape as number[], 'int32')
    const { logits } = attach(network, [], rng(0)).forward({}, { ids })
    const want = await ref.floats('logits')
    logits.dataSync().forEach((v, i) => {
      if (Math.abs(v - want[i]!) > 1e-4) expect(v).toBeCloseTo(want[i]!, 4)
    })
    const codec = nf4({ double: true }) as Codec
    const files = new Map<string, Blob>()
    const writer = await bnbWriter(network, codec, namesOf(network.config))
    await saveNetwork(
      network,
      (file) => {
        const sink = blobSink()
        return {
          ...sink,
          close: async () => {
            await sink.close()
            files.set(file, sink.blob())
          },
        }
      },
      { packed: writer },
    )
    const before = await everything(await openSafetensors(await fromFile(`${folder}/model.safetensors`)))
    const after = await everything(await openSafetensors(await blobFolder(files).open('model.safetensors')))
    expect(Object.keys(after).sort()).toEqual(Object.keys(before).sort())
    for (const [key, { data }] of Object.entries(before))
      expect(Buffer.from(after[key]!.data).equals(Buffer.from(data)), key).toBe(true)
  })

  it('names in its config what stays dense', async () => {
    const plain = await loadNetwork(nodeFolder(folder.replace('-nf4', '')))
    const some = await quantize(plain, int8() as Codec, { skip: 'blocks.0.mlp.*' })
    const { config, tensors } = await bnbWriter(some, int8() as Codec, namesOf(plain.config), { dtype: 'BF16' })
    const skip = (config['quantization_config'] as Record<string, unknown>)['llm_int8_skip_modules'] as string[]
    expect(skip).toContain('model.layers.0.mlp.gate_proj')
    expect(skip).not.toContain('model.layers.0.self_attn.q_proj')
    expect(skip).not.toContain('model.embed_tokens')
    expect(config).toMatchObject({ quantization_config: { load_in_8bit: true, bnb_4bit_compute_dtype: 'bfloat16' } })
    expect(tensors('x.weight', some.weights['blocks.0.mlp.up']!)).toBeUndefined()
  })
})

describe('what cannot be', () => {
  const broken = async (
    change: (all: Record<string, TensorBytes>) => void,
    name = 'stored-nf4-double',
  ): Promise<Checkpoint> => {
    const all = await everything(await fixture(name))
    change(all)
    return openSafetensors(fromBytes(toSafetensors(all), 'broken.safetensors'))
  }
  const u8 = (data: Uint8Array): TensorBytes => ({ dtype: 'U8', shape: [data.length], data })
  const STATE = 'proj.weight.quant_state.bitsandbytes__nf4'
  const state = (text: string) => (all: Record<string, TensorBytes>) => {
    all[STATE] = u8(new TextEncoder().encode(text))
  }
  it.each<[string, (all: Record<string, TensorBytes>) => void, RegExp]>([
    ['bad JSON', state('{'), /broken\.safetensors: tensor "proj\.weight\.quant_state.*not valid JSON/],
    ['null', state('null'), /says shape undefined/],
    ['another shape', state('{"blocksize": 64, "shape": [96, 191]}'), /says shape \[96,191\] where \[96,192\]/],
    ['an odd block', state('{"blocksize": 63, "shape": [96, 192]}'), /block must be .* found 63/],
    ['no offset', state('{"blocksize": 64, "shape": [96, 192], "nested_blocksize": 256}'), /nested_offset/],
    [
      'short codes',
      (all) => {
        all['proj.weight'] = u8(new Uint8Array(9215))
      },
      /"proj\.weight": has 9215 bytes where 9216/,
    ],
    [
      'short scales',
      (all) => {
        all['proj.weight.absmax'] = u8(new Uint8Array(287))
      },
      /absmax": has 287 bytes where 288/,
    ],
    [
      'no scales',
      (all) => {
        delete all['proj.weight.absmax']
      },
      /absmax": not in this checkpoint/,
    ],
    [
      'another code book',
      (all) => {
        all['proj.weight.quant_map'] = { dtype: 'F32', shape: [16], data: new Uint8Array(64) }
      },
      /level 0 is 0, ours -1/,
    ],
  ])('%s is refused, with the tensor named', async (_, change, message) => {
    await expect(fromBnb(await broken((all) => change(all)), 'proj.weight', [96, 192])).rejects.toThrow(message)
  })

  it('an int8 layer in a layout of a GPU is refused', async () => {
    const file = await broken((all) => {
      all['proj.weight_format'] = { dtype: 'U8', shape: [], data: new Uint8Array([1]) }
    }, 'stored-int8')
    await expect(fromBnb(file, 'proj.weight', [64, 96])).rejects.toThrow(/weight_format.*row-major/)
  })

  it('formats and options that bitsandbytes lacks', async () => {
    const w = rng(0).normal([4, 64]) as Tensor2D
    await expect(toBnb('p', packed(dynamic8() as Codec, w), dynamic8() as Codec)).rejects.toThrow(
      /dynamic8.*nf4, fp4 or int8/,
    )
    await expect(toBnb('p', packed(int8() as Codec, w), nf4() as Codec)).rejects.toThrow(/'int8', not 'nf4'/)
    expect(() => nf4({ block: 48 })).toThrow(/block must be .* found 48/)
    expect(() => int8({ per: 'column' as never })).toThrow(/per must be 'tensor', 'row'/)
    expect(() => nf4().rows!(nf4().encode(w), w.shape, tensor([4], [1], 'int32'))).toThrow(/index 4 is outside 0\.\.3/)
  })

  it('a config for transformers', () => {
    expect(quantizationConfig(nf4({ double: true }) as Codec, { skip: ['lm_head'] })).toEqual({
      quant_method: 'bitsandbytes',
      _load_in_8bit: false,
      _load_in_4bit: true,
      llm_int8_skip_modules: ['lm_head'],
      llm_int8_enable_fp32_cpu_offload: false,
      llm_int8_has_fp16_weight: false,
      bnb_4bit_quant_type: 'nf4',
      bnb_4bit_use_double_quant: true,
      bnb_4bit_compute_dtype: 'float32',
      bnb_4bit_quant_storage: 'uint8',
      load_in_4bit: true,
      load_in_8bit: false,
    })
  })
})
