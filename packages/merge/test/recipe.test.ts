import { cpu } from '@weftjs/tensor'
import {
  type Checkpoint,
  encodeFloats,
  fromBytes,
  openSafetensors,
  type TensorBytes,
  toSafetensors,
} from '@weftjs/tensor/checkpoint/index'
import { beforeAll, describe, expect, it } from 'vitest'
import { type MergeOptions, mergeCheckpoints, planMerge } from '../src/index.ts'
import { values } from './values.ts'

beforeAll(async () => {
  await cpu()
})

type Tensors = Record<string, TensorBytes>
const t = (shape: number[], ...numbers: number[]): TensorBytes => {
  const n = shape.reduce((p, d) => p * d, 1)
  return {
    dtype: 'F32',
    shape,
    data: encodeFloats(
      'F32',
      Float32Array.from({ length: n }, (_, i) => numbers[i % numbers.length]!),
    ),
  }
}
/** opens models held in memory, and counts what is open and what was read */
const among = (models: Record<string, Tensors>) => {
  const log = { open: 0, reads: [] as string[] }
  const open = async (model: string): Promise<Checkpoint> => {
    if (!models[model]) throw new Error(`no model ${model}`)
    const checkpoint = await openSafetensors(fromBytes(toSafetensors(models[model]), model))
    log.open++
    return {
      ...checkpoint,
      floats: async (name) => {
        log.reads.push(`${model}:${name}`)
        return checkpoint.floats(name)
      },
      close: async () => {
        log.open--
      },
    }
  }
  return { open, log }
}
const layers = (n: number, scale: number): Tensors =>
  Object.fromEntries([
    ['model.embed_tokens.weight', t([2], scale)],
    ...Array.from({ length: n }, (_, i) => [
      [`model.layers.${i}.mlp.up_proj.weight`, t([2], scale * (i + 1))],
      [`model.layers.${i}.self_attn.q_proj.weight`, t([2], scale * (i + 1))],
    ]).flat(),
    ['lm_head.weight', t([2], scale)],
  ])
const models = { a: layers(3, 1), b: layers(3, 0), base: layers(3, 0), long: layers(5, 1) }
const merge = async (
  config: unknown,
  among_ = among(models),
  options: MergeOptions = {},
): Promise<Record<string, number>> => {
  const found = await mergeCheckpoints(config, among_.open, (plan) => values(plan.tensors), options)
  return Object.fromEntries([...found].map(([name, v]) => [name, Math.round(v[0]! * 1e5) / 1e5]))
}
const two = (a: object, b: object, rest: object = {}): object => ({
  merge_method: 'linear',
  models: [
    { model: 'a', parameters: a },
    { model: 'b', parameters: b },
  ],
  ...rest,
})

describe('parameters', () => {
  it('go from the model over the recipe to the default', async () => {
    const found = await merge(two({ weight: 3 }, {}, { parameters: { weight: 1 } }))
    expect(found['lm_head.weight']).toBe(0.75)
  })

  it('a list runs over the layers, and its first value stands outside them', async () => {
    const found = await merge(two({ weight: [1, 0] }, { weight: [0, 1] }, { parameters: { normalize: false } }))
    expect(found).toMatchObject({
      'model.embed_tokens.weight': 1,
      'model.layers.0.mlp.up_proj.weight': 1,
      'model.layers.1.mlp.up_proj.weight': 1, // half of 2
      'model.layers.2.mlp.up_proj.weight': 0,
      'lm_head.weight': 1,
    })
  })

  it('the first filter that is a piece of the name decides; without one the next level is asked', async () => {
    const weight = [
      { filter: 'mlp', value: 1 },
      { filter: 'layers.1', value: 5 },
    ]
    const rest = { parameters: { normalize: false, weight: [{ filter: '*', value: 7 }] } }
    const found = await merge(two({ weight }, { weight: 0 }, rest))
    expect(found['model.layers.1.mlp.up_proj.weight']).toBe(2)
    expect(found['model.layers.1.self_attn.q_proj.weight']).toBe(10)
    expect(found['model.layers.0.self_attn.q_proj.weight']).toBe(7)
  })

  it('int8_mask is taken and changes nothing', async () => {
    expect(await merge(two({ weight: 1 }, { weight: 1 }, { parameters: { int8_mask: true } }))).toEqual(
      await merge(two({ weight: 1 }, { weight: 1 })),
    )
  })
})

describe('streams', () => {
  it('a tensor is read when its bytes are asked for, and what was opened is closed, whatever happens', async () => {
    const { open, log } = among(models)
    const config = two({ weight: 1 }, { weight: 1 })
    await mergeCheckpoints(config, open, async ({ tensors }) => {
      expect([log.open, log.reads]).toEqual([2, []])
      await (tensors[1]!.data as () => Promise<Uint8Array>)()
      expect(log.reads).toEqual([`a:${tensors[1]!.name}`, `b:${tensors[1]!.name}`])
    })
    expect(log.open).toBe(0)
    const full = mergeCheckpoints(config, open, async () => Promise.reject(new Error('disk full')))
    await expect(full).rejects.toThrow('disk full')
    expect(log.open).toBe(0)
    const gone = two({ weight: 1 }, { weight: 1 }, { models: [{ model: 'a' }, { model: 'gone' }] })
    await expect(mergeCheckpoints(gone, open, async () => {})).rejects.toThrow('no model gone')
    expect(log.open).toBe(0)
  })

  it('writes the dtype asked for, and copies whole numbers from the first model', async () => {
    const ids: TensorBytes = { dtype: 'I32', shape: [1], data: new Uint8Array([7, 0, 0, 0]) }
    const { open } = among({ a: { w: t([1], 1 / 3), ids }, b: { w: t([1], 1 / 3), ids } })
    const plan = await planMerge(two({ weight: 1 }, { weight: 1 }, { dtype: 'float32', out_dtype: 'bfloat16' }), open)
    const [first, second] = [...plan.tensors].sort((a, b) => a.name.localeCompare(b.name))
    expect([first!.dtype, second!.dtype]).toEqual(['I32', 'BF16'])
    expect(await (first!.data as () => Promise<Uint8Array>)()).toEqual(ids.data)
    expect((await (second!.data as () => Promise<Uint8Array>)()).length).toBe(2)
  })
})

describe('slices', () => {
  it('take layers of their sources and count them anew', async () => {
    const slice = (from: number, weight: number): object => ({
      sources: [
        { model: 'long', layer_range: [from, from + 2], parameters: { weight } },
        { model: 'a', layer_range: [0, 2], parameters: { weight: 0 } },
      ],
    })
    const config = { merge_method: 'linear', slices: [slice(3, 1), slice(0, 1)] }
    const { open } = among(models)
    expect((await planMerge(config, open)).layers).toBe(4)
    const found = await merge(config)
    expect([0, 1, 2, 3].map((i) => found[`model.layers.${i}.mlp.up_proj.weight`])).toEqual([4, 5, 1, 2])
    expect(found).not.toHaveProperty('model.layers.4.mlp.up_proj.weight')
  })
})

describe('a recipe that is wrong says where', () => {
  const ties = (...list: unknown[]): object => ({ merge_method: 'ties', base_model: 'base', models: list })
  it.each<[unknown, string | RegExp]>([
    [null, 'the recipe: must be a map, found null'],
    [{}, 'merge_method: must be a string, found undefined'],
    [
      { merge_method: 'slurp', models: [] },
      'merge_method: "slurp" is not supported; there are linear, task_arithmetic, ties',
    ],
    [{ merge_method: 'constructor', models: [] }, 'merge_method: "constructor" is not supported'],
    [{ merge_method: 'linear' }, 'a recipe has either models or slices, found neither'],
    [{ merge_method: 'linear', models: [] }, 'models: must be a list of at least one'],
    [{ merge_method: 'linear', models: ['a'] }, 'models.0: must be a map, found "a"'],
    [{ merge_method: 'linear', models: [{ model: 3 }] }, 'models.0.model: must be a string, found 3'],
    [two({ weight: 1 }, { weight: 'much' }), 'models.1.parameters.weight: must be a number, a list'],
    [two({ weight: 1 }, { weight: Number.NaN }), 'models.1.parameters.weight: must be a number'],
    [two({ weight: 1 }, { weight: [1, '2'] }), 'models.1.parameters.weight: must be a number'],
    [two({ weight: 1 }, { weight: [{ value: 'x' }] }), 'models.1.parameters.weight.0.value: must be a number'],
    [
      two({ weight: 1 }, { weight: [{ filter: 3, value: 1 }] }),
      'models.1.parameters.weight.0.filter: must be a string',
    ],
    [
      two({ weight: 1 }, { weight: [{ filters: 'mlp', value: 1 }] }),
      'models.1.parameters.weight.0.filters: is not known',
    ],
    [two({ weight: 1 }, {}), 'models.1.parameters.weight: is needed by linear, and missing at '],
    [
      two({ weight: 1, density: 0.5 }, { weight: 1 }),
      'models.0.parameters.density: is not known here; known are weight, normalize',
    ],
    [
      two({ weight: 1 }, { weight: 1 }, { parameters: { normalize: 1 } }),
      'parameters.normalize: must be true or false',
    ],
    [two({ weight: 1 }, { weight: 1 }, { dtype: 'int8' }), 'dtype: must be float32, float16, bfloat16, found "int8"'],
    [two({ weight: 1 }, { weight: 1 }, { colour: 1 }), 'colour: is not known here'],
    [two({ weight: 1 }, { weight: 1 }, { tokenizer_source: 'union' }), 'tokenizer_source: must be base or one of a, b'],
    [{ merge_method: 'ties', models: [{ model: 'a' }] }, 'base_model: is needed by ties'],
    [ties({ model: 'a', parameters: { weight: 1, density: 0 } }), /^lm_head\.weight: density must be above 0, found 0/],
    [
      { merge_method: 'linear', slices: [{ sources: [{ model: 'a' }] }] },
      'slices.0.sources.0.layer_range: must be [first, end]',
    ],
    [
      {
        merge_method: 'linear',
        slices: [
          {
            sources: [
              { model: 'a', layer_range: [0, 1] },
              { model: 'b', layer_range: [0, 2] },
            ],
          },
        ],
      },
      'slices.0.sources.1.layer_range: has 2 layers, the first source 1',
    ],
    [
      {
        merge_method: 'linear',
        slices: [{ sources: [{ model: 'a', layer_range: [2, 4], parameters: { weight: 1 } }] }],
      },
      /layers\.3\..*not in a/,
    ],
  ])('%j', async (config, message) => {
    await expect(merge(config)).rejects.toThrow(message)
  })

  it.each<[string, Tensors, RegExp]>([
    [
      'a shape',
      { ...models.a, 'lm_head.weight': t([3], 1) },
      /"lm_head\.weight": differs between the models: a F32 \[2\], b F32 \[3\]/,
    ],
    ['a missing tensor', layers(2, 1), /"model\.layers\.2\.mlp\.up_proj\.weight": is in a and not in b/],
    ['one too many', layers(4, 1), /"model\.layers\.3\.mlp\.up_proj\.weight": is in b and not in a/],
  ])('%s that differs is found before anything is written', async (_, b, message) => {
    const { open, log } = among({ a: models.a, b })
    await expect(planMerge(two({ weight: 1 }, { weight: 1 }), open)).rejects.toThrow(message)
    expect([log.open, log.reads]).toEqual([0, []])
  })
})
