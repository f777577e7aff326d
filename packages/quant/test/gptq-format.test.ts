import { attach, loadNetwork, namesOf, saveNetwork } from '@weftjs/model'
import type { Codec, Config, Network, Tensor2D, Weight } from '@weftjs/spec'
import { matMul, mul, rng, tensor, wasm } from '@weftjs/tensor'
import {
  blobFolder,
  blobSink,
  type Checkpoint,
  CheckpointError,
  fromBytes,
  openSafetensors,
  type TensorBytes,
  type TensorSource,
  toSafetensors,
} from '@weftjs/tensor/checkpoint'
import { fromFile, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { packed } from '@weftjs/weight'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { fromGptq, fromPacked, type GptqOptions, gptq, gptqWriter, packedWriter } from '../src/index.ts'
import { fixture } from './fixtures.ts'

beforeAll(async () => {
  await wasm()
})

const KEYS = ['qweight', 'qzeros', 'scales', 'g_idx']
const configOf = (more: Config = {}): Config => ({ quantization_config: { quant_method: 'gptq', ...more } })
const V2 = { checkpoint_format: 'gptq_v2' }
const bytesOf = async ({ data }: TensorSource): Promise<Uint8Array> =>
  (typeof data === 'function' ? await data() : data) as Uint8Array
const networkOf = (weights: Readonly<Record<string, Weight>>): Network<object> => ({ config: {}, weights, vectors: {} })
const HF = 'model.layers.0.self_attn.q_proj.weight'
const NAMES = [{ name: 'blocks.0.attn.q', hf: HF }]
const written = async (weight: Weight, version?: 1 | 2) => {
  const network = networkOf({ 'blocks.0.attn.q': weight })
  const writer = await gptqWriter(network, NAMES, version ? { version } : {})
  return { tensors: writer.tensors(HF, weight)!, config: writer.config['quantization_config'] as Config }
}
/** each tensor that is written is that of the file, byte by byte */
const mustBeBytesOf = async (tensors: readonly TensorSource[], file: Checkpoint, prefix: string): Promise<void> => {
  expect(tensors.map((t) => t.name.split('.').at(-1))).toEqual(KEYS)
  for (const [i, key] of KEYS.entries()) {
    const wanted = file.entry(`${prefix}.${key}`)
    const { data } = await file.read(`${prefix}.${key}`)
    expect([tensors[i]!.dtype, [...tensors[i]!.shape]], key).toEqual([wanted.dtype, [...wanted.shape]])
    expect(Buffer.from(await bytesOf(tensors[i]!)).equals(Buffer.from(data)), `${prefix}.${key}`).toBe(true)
  }
}
const values = (w: Weight): Float32Array => w.dense().dataSync() as Float32Array

describe('layers that AutoGPTQ packed', () => {
  const [N, K] = [32, 256]
  const NAMED = ['plain', 'asymmetric', 'ordered', 'static', 'rows', 'wide', 'three', 'dead']
  const caseOf = async (name: string) => {
    const file = await fixture('gptq-solver')
    return { file, ...JSON.parse(file.metadata['about']!).cases[name] }
  }

  it.each(NAMED)('%s: read, decoded as its codes say, and written byte for byte', async (name) => {
    const { file, bits, group, sym, act } = await caseOf(name)
    const config = configOf({ bits, group_size: group, desc_act: act })
    const weight = (await fromGptq(file, `${name}.packed.weight`, [N, K], config))!
    expect(weight.codec!.options).toMatchObject({ bits, group, symmetric: sym, actOrder: act })
    const [codes, zero] = [await file.ints(`${name}.codes`), await file.ints(`${name}.zero`)]
    const scale = await file.floats(`${name}.packed.scales`) // [G, N]
    const groupOf = await file.ints(`${name}.packed.g_idx`)
    const G = scale.length / N
    const found = values(weight)
    for (let o = 0; o < N; o++)
      for (let i = 0; i < K; i++) {
        const g = groupOf[i]!
        expect(found[o * K + i]).toBe(Math.fround((codes[o * K + i]! - zero[o * G + g]!) * scale[g * N + o]!))
      }
    const { tensors, config: said } = await written(weight)
    await mustBeBytesOf(tensors, file, `${name}.packed`)
    expect(said).toMatchObject({ bits, group_size: group, sym, desc_act: act, checkpoint_format: 'gptq' })
  })

  it.each(NAMED.filter((n) => n !== 'dead'))('%s: the codec makes these very bytes', async (name) => {
    const { file, bits, group, sym, act, static: staticGroups } = await caseOf(name)
    const x = await file.ints('x')
    const h = new Float32Array(K * K)
    for (let r = 0; r < x.length / K; r++)
      for (let i = 0; i < K; i++) for (let j = 0; j < K; j++) h[i * K + j]! += (x[r * K + i]! * x[r * K + j]!) / 64
    const codec = gptq({ bits, group, symmetric: sym, actOrder: act, staticGroups }) as Codec<any>
    const w = tensor(await file.floats('w'), [N, K]) as Tensor2D
    const moment = tensor(h, [K, K])
    const { tensors } = await written(packed(codec, w, { rows: 1, batches: 1, get: () => moment }))
    await mustBeBytesOf(tensors, file, `${name}.packed`)
  })
})

describe('versions 1 and 2, as GPTQModel turns one into the other', () => {
  it.each([2, 3, 4, 8])('%i bits: the same numbers from both, and both written byte for byte', async (bits) => {
    const file = await fixture('gptq-versions')
    const one = (await fromGptq(file, `v1-${bits}.weight`, [64, 64], configOf()))!
    const two = (await fromGptq(file, `v2-${bits}.weight`, [64, 64], configOf(V2)))!
    const wanted = await file.floats(`dense-${bits}`)
    for (const w of [one, two]) expect(values(w)).toEqual(wanted)
    // taken for the other version, every value is a step off
    expect(values((await fromGptq(file, `v1-${bits}.weight`, [64, 64], configOf(V2)))!)).not.toEqual(wanted)
    await mustBeBytesOf((await written(two, 1)).tensors, file, `v1-${bits}`)
    await mustBeBytesOf((await written(one, 2)).tensors, file, `v2-${bits}`)
  })

  it('a zero point of 0 is written as version 2, which every reader brings back', async () => {
    const w = tensor(
      Float32Array.from({ length: 32 * 32 }, (_, i) => (i % 32) / 31),
      [32, 32],
    ) as Tensor2D
    const weight = packed(gptq({ group: 32, symmetric: false }) as Codec<any>, w)
    const { config } = await written(weight)
    expect(config['checkpoint_format']).toBe('gptq_v2')
    for (const version of [1, 2] as const) {
      const { tensors, config } = await written(weight, version)
      const back = await read(tensors, { quantization_config: config })
      expect(values(back!)).toEqual(values(weight))
    }
  })
})

const checkpointOf = async (tensors: readonly TensorSource[]): Promise<Checkpoint> => {
  const all: Record<string, TensorBytes> = {}
  for (const t of tensors) all[t.name] = { dtype: t.dtype, shape: t.shape, data: await bytesOf(t) }
  return openSafetensors(fromBytes(toSafetensors(all), 'model.safetensors'))
}
const read = async (
  tensors: readonly TensorSource[],
  config: Config,
  shape: readonly [number, number] = [32, 32],
): Promise<Weight | undefined> => fromPacked(await checkpointOf(tensors), HF, shape, config)

it('what is written is read again, whatever the options', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        bits: fc.constantFrom(2, 3, 4, 8),
        group: fc.constantFrom(16, 32, 96, -1),
        actOrder: fc.boolean(),
        symmetric: fc.boolean(),
        staticGroups: fc.boolean(),
      }) as fc.Arbitrary<Required<GptqOptions>>,
      fc.boolean(),
      async (options, told) => {
        const w = rng(options.bits).normal([32, 96]) as Tensor2D
        const x = mul(
          rng(1).normal([96, 96]),
          tensor(
            Float32Array.from({ length: 96 }, (_, i) => 1 + ((i * 37) % 96)),
            [96],
          ),
        )
        const moment = matMul(x, x, true)
        const weight = packed(gptq(options) as Codec<any>, w, { rows: 1, batches: 1, get: () => moment })
        const { tensors, config } = await written(weight)
        // without a config: as version 1
        if (!told && config['checkpoint_format'] !== 'gptq') return
        const back = (await read(tensors, told ? { quantization_config: config } : {}, [32, 96]))!
        expect(values(back)).toEqual(values(weight))
        const again = (await written(back)).tensors
        for (const [i, t] of tensors.entries()) expect(await bytesOf(again[i]!)).toEqual(await bytesOf(t))
      },
    ),
    { seed: 5, numRuns: 30 },
  )
})

describe('a checkpoint of AutoGPTQ layers', () => {
  const folder = new URL('../../testkit/fixtures/quant/llama-gptq', import.meta.url).pathname

  it('gives the logits that they give', async () => {
    const network = await loadNetwork(nodeFolder(folder), { packed: fromPacked })
    expect(network.weights['blocks.1.mlp.down']!.codec!.options).toMatchObject({
      ...{ bits: 4, group: 32, actOrder: true, symmetric: false },
    })
    const reference = await openSafetensors(await fromFile(`${folder}/reference.safetensors`))
    const ids = tensor(await reference.ints('input_ids'), [2, 12], 'int32')
    const found = attach(network, [], rng(0)).forward({}, { ids }).logits.dataSync()
    const wanted = await reference.floats('logits')
    const most = wanted.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
    expect(most).toBeGreaterThan(0.5)
    expect(Math.max(...wanted.map((v, i) => Math.abs(v - found[i]!))) / most).toBeLessThan(1e-4)
  })

  it('is written as it was', async () => {
    const network = await loadNetwork(nodeFolder(folder), { packed: fromPacked })
    const files = new Map<string, Blob>()
    await saveNetwork(
      network,
      (file) => {
        const sink = blobSink()
        const close = async (): Promise<void> => {
          await sink.close()
          files.set(file, sink.blob())
        }
        return { ...sink, close }
      },
      { packed: (await packedWriter(network, namesOf(network.config)))! },
    )
    const before = await openSafetensors(await fromFile(`${folder}/model.safetensors`))
    const after = await openSafetensors(await blobFolder(files).open('model.safetensors'))
    expect([...after.names].sort()).toEqual([...before.names].sort())
    for (const name of before.names)
      expect(Buffer.from((await after.read(name)).data).equals(Buffer.from((await before.read(name)).data)), name).toBe(
        true,
      )
    const config = JSON.parse(await files.get('config.json')!.text())
    expect(config.quantization_config).toMatchObject({
      ...{ quant_method: 'gptq', bits: 4, group_size: 32, desc_act: true, sym: false, checkpoint_format: 'gptq' },
    })
    expect(config.quantization_config).not.toHaveProperty('modules_in_block_to_quantize')
  })
})

describe('what cannot be', () => {
  const good = async (): Promise<{ tensors: readonly TensorSource[]; config: Config }> => {
    const weight = packed(gptq({ group: 16, symmetric: false }) as Codec<any>, rng(1).normal([32, 32]) as Tensor2D)
    const { tensors, config } = await written(weight)
    return { tensors, config: { quantization_config: config } }
  }
  const i32 = (...v: number[]): Uint8Array => new Uint8Array(Int32Array.from(v).buffer)
  const swap = (key: string, change: Partial<TensorBytes>) => (all: readonly TensorSource[]) =>
    all.map((t) => (t.name.endsWith(key) ? { ...t, ...change } : t))

  it.each<[string, (all: readonly TensorSource[]) => readonly TensorSource[], RegExp]>([
    ['no scales', (all) => all.filter((t) => !t.name.endsWith('scales')), /q_proj\.qweight.*has no 'scales' beside it/],
    ['no zeros', (all) => all.filter((t) => !t.name.endsWith('qzeros')), /has no 'qzeros'/],
    ['codes of 5 bits', swap('qweight', { shape: [5, 32], data: new Uint8Array(640) }), /\[5,32\], no packing of/],
    ['bytes', swap('qweight', { dtype: 'U8', shape: [4, 128] }), /qweight.*is U8 .* where I32/],
    [
      'groups of odd sizes',
      swap('g_idx', { data: i32(...Array.from({ length: 32 }, (_, i) => Number(i > 3))) }),
      /g_idx.*other sizes than 16/,
    ],
    [
      'groups that are not there',
      swap('g_idx', { data: i32(...Array.from({ length: 32 }, (_, i) => i - 7)) }),
      /g_idx/,
    ],
    ['short g_idx', swap('g_idx', { shape: [4], data: i32(0, 0, 1, 1) }), /g_idx.*is \[4\] where \[32\]/],
    [
      'infinite scales',
      swap('scales', { data: new Uint8Array(128).map((_, i) => (i % 2 ? 0x7c : 0)) }),
      /scales.*is (NaN|Infinity) at \[0, 0\]/,
    ],
    [
      'scales of 3 groups',
      swap('scales', { shape: [3, 32], data: new Uint8Array(192) }),
      /3 groups, which do not divide 32/,
    ],
    ['short zeros', swap('qzeros', { shape: [2, 3], data: new Uint8Array(24) }), /qzeros.*is \[2,3\] where \[2,4\]/],
  ])('%s: refused by name', async (_, change, message) => {
    const { tensors, config } = await good()
    await expect(read(change(tensors), config)).rejects.toThrow(message)
  })

  it('an unknown layout, and what is of another method', async () => {
    const { tensors } = await good()
    await expect(read(tensors, configOf({ checkpoint_format: 'marlin' }))).rejects.toThrow(
      /layout "marlin"; convert it/,
    )
    expect(
      await fromGptq(await checkpointOf(tensors), HF, [32, 32], { quantization_config: { quant_method: 'awq' } }),
    ).toBeUndefined()
    expect(await fromGptq(await checkpointOf(tensors), 'other.weight', [32, 32], configOf())).toBeUndefined()
  })

  it('any damage is refused with the tensor named, or gives finite numbers', async () => {
    const { tensors, config } = await good()
    const bytes = await Promise.all(tensors.map(bytesOf))
    await fc.assert(
      fc.asyncProperty(
        fc.nat(3),
        fc.constantFrom('I32', 'F16', 'F32', 'U8', 'I64', 'BF16'),
        fc.array(fc.integer({ min: 0, max: 80 }), { maxLength: 3 }),
        fc.boolean(),
        fc.integer(),
        async (at, dtype, shape, resized, seed) => {
          const size = { I32: 4, F16: 2, F32: 4, U8: 1, I64: 8, BF16: 2 }[dtype]!
          const noise = (n: number): Uint8Array => Uint8Array.from(rng(seed).numbers(n), (v) => 256 * v)
          const all = tensors.map(
            (t, i): TensorSource =>
              i !== at
                ? t
                : resized
                  ? { ...t, dtype: dtype as 'I32', shape, data: noise(size * shape.reduce((n, d) => n * d, 1)) }
                  : { ...t, data: noise(bytes[i]!.length) },
          )
          const weight = await read(all, config).catch((error: unknown) => {
            expect(error).toBeInstanceOf(CheckpointError)
            expect((error as Error).message).toMatch(/q_proj/)
          })
          if (weight) expect(values(weight).every(Number.isFinite)).toBe(true)
        },
      ),
      { seed: 6, numRuns: 120 },
    )
  })

  it('networks that the format has no words for; ours takes them', async () => {
    const names = ['q', 'k'].map((n) => ({ name: `blocks.0.attn.${n}`, hf: `model.layers.0.${n}_proj.weight` }))
    const two = (a: Codec<any>, b: Codec<any>, shape: [number, number] = [32, 32]): Network<object> =>
      networkOf({
        'blocks.0.attn.q': packed(a, rng(1).normal(shape) as Tensor2D),
        'blocks.0.attn.k': packed(b, rng(2).normal(shape) as Tensor2D),
      })
    const [four, three] = [gptq({ group: 32 }), gptq({ bits: 3, group: 32 })]
    await expect(gptqWriter(two(four, three), names)).rejects.toThrow(/attn\.k: 3 bits in groups of 32, others 4/)
    const odd = gptq({ group: -1 })
    await expect(gptqWriter(two(odd, odd, [20, 32]), names)).rejects.toThrow(
      /\[20,32\]: gptq needs sides that 32 divides/,
    )
    const other = (await packedWriter(two(four, three), names))!
    expect((other.config['quantization_config'] as Config)['quant_method']).toBe('weft')
    const some = await gptqWriter(
      {
        ...two(four, four),
        weights: {
          ...two(four, four).weights,
          'blocks.0.attn.k': { ...two(four, four).weights['blocks.0.attn.k']!, codec: undefined as never },
        },
      },
      [
        { name: 'blocks.0.attn.q', hf: HF },
        { name: 'blocks.0.attn.k', hf: HF.replace('q_proj', 'k_proj') },
      ],
    )
    expect(some.config['quantization_config']).toMatchObject({ modules_in_block_to_quantize: [['self_attn.q_proj']] })
  })
})
