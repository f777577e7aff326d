import { attach, sitesOf } from '@weftjs/model'
import { add, cpu, memory, rng } from '@weftjs/tensor'
import { blobFolder, type Folder, openCheckpoint, type TensorBytes, toSafetensors } from '@weftjs/tensor/checkpoint'
import { describe, expect, it } from 'vitest'
import {
  fromPeft,
  ia3,
  loadPeft,
  lora,
  peftConfig,
  readPeftConfig,
  road,
  savePeft,
  toPeft,
  trainableTokens,
} from '../src/index.ts'
import { model, open, peftFolder } from './fixture.ts'

await cpu()

const good = { peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: ['q_proj'] }

describe('adapter_config.json', () => {
  it.each([
    [[], 'adapter_config.json: must be an object, found []'],
    [{ ...good, peft_type: 'NEW' }, /peft_type "NEW" is not supported; supported are .*"LORA"/],
    [{ ...good, peft_type: undefined }, 'peft_type nothing is not supported'],
    [{ ...good, r: '8' }, 'r must be a whole number of at least 1, found "8"'],
    [{ ...good, r: 0 }, 'r must be a whole number of at least 1, found 0'],
    [{ ...good, lora_alpha: null }, 'lora_alpha must be a number, found null'],
    [{ ...good, target_modules: null }, 'target_modules must be a list of module names'],
    [{ ...good, target_modules: ['q', 3] }, 'target_modules[1] must be a string, found 3'],
    [{ ...good, target_modules: '(' }, 'target_modules: "(" is not a regular expression'],
    [{ ...good, exclude_modules: 5 }, 'exclude_modules must be a string or a list of strings, found 5'],
    [{ ...good, rank_pattern: [2] }, 'rank_pattern must be an object of patterns, found [2]'],
    [
      { ...good, rank_pattern: { v_proj: 'x' } },
      'rank_pattern["v_proj"] must be a whole number of at least 1, found "x"',
    ],
    [{ ...good, alpha_pattern: { '[': 1 } }, 'alpha_pattern["["]: "[" is not a regular expression'],
    [{ ...good, modules_to_save: 'lm_head' }, 'modules_to_save must be a list of strings, found "lm_head"'],
    [{ ...good, modules_to_save: ['lm_head', {}] }, 'modules_to_save[1] must be a string, found {}'],
    [{ ...good, layers_to_transform: [0, -1] }, 'layers_to_transform[1] must be the number of a layer, found -1'],
    [{ ...good, bias: 'some' }, 'bias must be "none", "all" or "lora_only", found "some"'],
    [{ ...good, lora_dropout: 1 }, 'lora_dropout must be a number in [0, 1), found 1'],
    [{ ...good, use_rslora: 'yes' }, 'use_rslora must be true or false, found "yes"'],
    [{ ...good, use_bdlora: true }, 'use_bdlora is true, which is not supported with peft_type "LORA" (only false)'],
    [{ ...good, arrow_config: { experts: 2 } }, 'arrow_config is {"experts":2}, which is not supported'],
    [{ ...good, layer_replication: [[2, 0]] }, 'layer_replication must be a list of ranges [start, end) of layers'],
    [{ ...good, init_lora_weights: 'best' }, /init_lora_weights must be true or false or .*, found "best"/],
    [{ ...good, base_model_name_or_path: 3 }, 'base_model_name_or_path must be a string, found 3'],
  ])('%j', (config, message) => {
    expect(() => peftConfig(config)).toThrow(message)
  })

  it('is read with the name of its folder in the message', async () => {
    const folder = (text: string): Folder => blobFolder(new Map([['adapter_config.json', new Blob([text])]]), 'mine')
    await expect(readPeftConfig(folder('{'))).rejects.toThrow('mine/adapter_config.json: not valid JSON')
    await expect(readPeftConfig(folder('{"peft_type":"NEW"}'))).rejects.toThrow(
      'mine/adapter_config.json: peft_type "NEW" is not supported',
    )
    await expect(readPeftConfig(blobFolder(new Map(), 'mine'))).rejects.toThrow('no file "adapter_config.json"')
  })
})

/** a PEFT folder with its tensors changed */
const changed = async (
  name: string,
  change: (tensors: Record<string, TensorBytes>) => void,
  config: object = {},
): Promise<Folder> => {
  const file = await openCheckpoint(peftFolder(name), { stem: 'adapter_model' })
  const tensors: Record<string, TensorBytes> = {}
  for (const key of file.names) tensors[key] = await file.read(key)
  await file.close()
  change(tensors)
  const text = JSON.stringify({ ...(await readPeftConfig(peftFolder(name))), ...config })
  return blobFolder(
    new Map([
      ['adapter_config.json', new Blob([text])],
      ['adapter_model.safetensors', new Blob([toSafetensors(tensors) as BlobPart])],
    ]),
    'changed',
  )
}
const Q = 'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight'

describe('adapter_model.safetensors', () => {
  const load = async (folder: Folder, base = 'llama3'): Promise<unknown> => open(folder, base)

  it('names a tensor that is missing', async () => {
    const folder = await changed('lora-qv', (t) => delete t[Q])
    await expect(load(folder)).rejects.toThrow(`tensor "${Q}": missing (for blocks.0.attn.q.lora.a)`)
  })
  it('names a tensor that is too much', async () => {
    const folder = await changed('lora-qv', (t) => (t['base_model.model.model.layers.7.x.lora_A.weight'] = t[Q]!))
    await expect(load(folder)).rejects.toThrow(
      'tensor "base_model.model.model.layers.7.x.lora_A.weight": is of no use here',
    )
  })
  it('names a tensor of another shape', async () => {
    const folder = await changed('lora-qv', (t) => (t[Q] = { ...t[Q]!, shape: [8, 24] }))
    await expect(load(folder)).rejects.toThrow(
      `tensor "${Q}": has shape [8,24], and blocks.0.attn.q.lora.a needs [4,48]`,
    )
  })
  it('refuses integers', async () => {
    const folder = await changed('lora-qv', (t) => (t[Q] = { ...t[Q]!, dtype: 'I32' }))
    await expect(load(folder)).rejects.toThrow(Q)
  })
  it('refuses an adapter for a model of other sizes, naming tensor and shapes', async () => {
    await expect(load(peftFolder('lora-qv'), 'llama')).rejects.toThrow(
      /has shape \[4,48\], and blocks\.0\..* needs \[4,32\]/,
    )
  })
  it('refuses an adapter for another family, naming what there is', async () => {
    await expect(load(peftFolder('lora-gpt2'), 'llama')).rejects.toThrow(
      'no module of this model matches target_modules ["c_attn"]; its modules end in embed_tokens, q_proj',
    )
  })
  it('refuses tensors of another rank than the config says, which may exceed the matrix as in PEFT', async () => {
    const folder = await changed('lora-qv', () => {}, { r: 40 })
    await expect(load(folder)).rejects.toThrow(/has shape \[4,48\], and .* needs \[40,48\]/)
  })
  it('refuses another base whose frozen embedding differs', async () => {
    const key = 'base_model.model.model.embed_tokens.base_layer.weight'
    const folder = await changed('lora-embedding', (t) => {
      const data = t[key]!.data.slice()
      new DataView(data.buffer).setFloat32(40, 3, true)
      t[key] = { ...t[key]!, data }
    })
    await expect(load(folder, 'llama')).rejects.toThrow(`tensor "${key}": is a frozen copy of embed that differs`)
  })
  it('refuses to read into an adapter of another factor', async () => {
    const network = await model('llama3')
    const tuned = attach(network, [{ adapter: lora({ rank: 4, alpha: 4 }), at: 'blocks.*.attn.{q,v}' }], rng(0))
    await expect(loadPeft(peftFolder('lora-qv'), tuned)).rejects.toThrow(
      'was trained with lora_alpha 8, and this adapter has 4; attach what fromPeft gives',
    )
  })
  it('makes no tensor before all is well', async () => {
    const folder = await changed('lora-qv', (t) => delete t[Q])
    const network = await model('llama3')
    const start = fromPeft(await readPeftConfig(folder), network, sitesOf(network))
    const tuned = attach(start.network, start.attachments, rng(0), start.options)
    const before = memory().numTensors
    await expect(loadPeft(folder, tuned)).rejects.toThrow('missing')
    expect(memory().numTensors).toBe(before)
  })
})

describe('what a PEFT file cannot hold', () => {
  const tune = async (...args: unknown[]): Promise<ReturnType<typeof attach>> => {
    const [attachments, options] = args as [Parameters<typeof attach>[1], Parameters<typeof attach>[3]]
    return attach(await model('qwen2'), attachments, rng(0), options)
  }
  it('is refused by name, and nothing is written', async () => {
    const other = { name: 'mine', init: () => ({ state: { z: rng(0).normal([1]) } }), weight: (w: unknown) => w }
    const cases: [ReturnType<typeof attach>, string][] = [
      [
        await tune([
          { adapter: lora(), at: 'blocks.0.attn.v' },
          { adapter: other, at: 'blocks.0.attn.q' },
        ]),
        "blocks.0.attn.q: a PEFT LORA file cannot hold 'mine' beside 'lora'",
      ],
      [
        await tune([
          { adapter: lora(), at: 'blocks.0.attn.q', name: 'one' },
          { adapter: lora(), at: 'blocks.0.attn.q', name: 'two' },
        ]),
        'blocks.0.attn.q: a PEFT file holds one adapter for each module',
      ],
      [
        await tune([{ adapter: lora(), at: 'blocks.0.attn.q' }], { train: ['blocks.1.attn.k.bias'] }),
        "PEFT's config cannot say exactly what was trained here (",
      ],
      [
        await tune([
          { adapter: lora({ rslora: true }), at: 'blocks.0.attn.q' },
          { adapter: lora(), at: 'blocks.0.attn.v' },
        ]),
        'PEFT has one use_rslora for all modules',
      ],
      [await tune([], { train: ['norm'] }), 'there is no adapter here'],
    ]
    for (const [tuned, message] of cases) {
      let opened = 0
      const sink = (): never => {
        opened++
        throw new Error('opened')
      }
      await expect(savePeft(sink, tuned, tuned.params)).rejects.toThrow(message)
      expect(opened).toBe(0)
    }
  })
  it('places that PEFT would adapt too are named', async () => {
    const adapter = trainableTokens({ tokens: [1, 2] })
    const tuned = attach(await model('llama3'), [{ adapter, at: 'embed' }], rng(0))
    expect(() => toPeft(tuned, tuned.params)).toThrow('with this config PEFT would adapt head too')
  })
  it.each([road(), ia3()])('what acts on a matrix says where there is none: $name', async (adapter) => {
    const network = await model('llama3')
    expect(() => attach(network, [{ adapter, at: 'blocks.0.norm1' }], rng(0))).toThrow(
      'blocks.0.norm1 (norm): there is no weight here to adapt',
    )
  })
  it('params that are not of this network are refused', async () => {
    const tuned = await tune([{ adapter: lora({ rank: 2 }), at: 'blocks.0.attn.q' }])
    expect(() => toPeft(tuned, { 'blocks.0.attn.q.lora.a': add(1, 1) })).toThrow(
      'blocks.0.attn.q.lora.a: has no value of shape [2,32]',
    )
  })
})
