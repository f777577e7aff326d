import {
  attach,
  complete,
  loadNetwork,
  nextToken,
  replicateLayers,
  resizeVocabulary,
  sitesOf,
  type Tuned,
} from '@weftjs/model'
import type { Params } from '@weftjs/spec'
import { add, backprop, cpu, mapParams, memory, rng, tensor } from '@weftjs/tensor'
import { blobFolder, blobSinks, type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { describe, expect, it } from 'vitest'
import { lora } from '../src/lora.ts'
import { peftBase, replicationOf } from '../src/peft/base.ts'
import { peftConfig, readPeftConfig } from '../src/peft/config.ts'
import { fromPeft } from '../src/peft/load.ts'
import { adapterNames, namedAdapter } from '../src/peft/named.ts'
import { savePeft } from '../src/peft/save.ts'
import { distance, fixtures, intsOf, model, open, peftFolder, safetensors, saved } from './fixture.ts'

await cpu()
const good = { peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['q_proj'] }
const surgeries = { sites: sitesOf, replicate: replicateLayers, resize: resizeVocabulary }
const moved = ({ params }: Tuned): Params => mapParams(params, (p, n) => add(p, rng(9).fork(n).normal(p.shape, 0.2)))

describe('replicated layers', () => {
  const ranges = [
    [0, 2],
    [1, 2],
  ] as const

  it('are those of the config, or the remedy is named', async () => {
    const network = await model('llama3')
    const config = peftConfig({ ...good, layer_replication: ranges })
    expect(replicationOf(config)).toEqual(ranges)
    expect(() => fromPeft(config, network, sitesOf(network))).toThrow(
      /layer_replication is \[\[0,2\],\[1,2\]\].*attach to replicateLayers\(network, \[\[0,2\],\[1,2\]\]\)/,
    )
    const deep = replicateLayers(network, ranges)
    expect(fromPeft(config, deep, sitesOf(deep)).network.config.layers).toBe(3)
    expect(() => fromPeft(peftConfig(good), deep, sitesOf(deep))).toThrow(
      /has no layer_replication, and .*attach to that/,
    )
    const folder = peftFolder('replicated')
    await expect(peftBase(folder, await readPeftConfig(folder), network, { sites: sitesOf })).rejects.toThrow(
      /layer_replication is .*; pass replicateLayers of @weftjs\/model to peftBase/,
    )
  })

  it('are written with the adapter, copies of a layer apart', async () => {
    const deep = replicateLayers(await model('llama3'), ranges)
    const tuned = attach(deep, [{ adapter: lora({ rank: 2 }), at: 'blocks.*.attn.q' }], rng(1))
    const params = moved(tuned)
    const folder = await saved(tuned, params, { base: 'llama3' })
    expect((await readPeftConfig(folder))['layer_replication']).toEqual(ranges)
    const again = await open(folder)
    const ids = tensor([5, 9, 14, 23], [1, 4], 'int32')
    const [one, two] = [tuned.forward(params, { ids }), again.tuned.forward(again.params, { ids })]
    expect(distance(one.logits.dataSync(), two.logits.dataSync())).toBe(0)
    const [a, b] = [1, 2].map((i) => params[`blocks.${i}.attn.q.lora.a`]!.dataSync())
    expect(distance(a!, b!)).toBeGreaterThan(0.01)
  })
})

describe('a vocabulary of another size', () => {
  it('is written with the tables of the network, and read back', async () => {
    for (const [base, extra] of [
      ['llama', 4],
      ['llama3', 4],
      ['llama', -6],
    ] as const) {
      const own = await model(base)
      const rows = own.config.vocabulary + extra
      const network = resizeVocabulary(own, rows)
      const tuned = attach(network, [{ adapter: lora({ rank: 2 }), at: 'blocks.*.attn.q' }], rng(1))
      const params = moved(tuned)
      const folder = await saved(tuned, params, { base })
      const file = await openCheckpoint(folder, { stem: 'adapter_model' })
      for (const key of ['model.embed_tokens', 'lm_head'])
        expect(file.entry(`base_model.model.${key}.weight`).shape).toEqual([rows, own.config.width])
      const again = await open(folder)
      expect(again.tuned.network.config.vocabulary).toBe(rows)
      const ids = tensor([5, 9, 14, 23], [1, 4], 'int32')
      const [one, two] = [tuned.forward(params, { ids }), again.tuned.forward(again.params, { ids })]
      expect(distance(one.logits.dataSync(), two.logits.dataSync())).toBe(0)
    }
  })

  it('of the same size is another copy of the same table, or of another base', async () => {
    const tuned = attach(await model('llama'), [{ adapter: lora({ rank: 2 }), at: 'blocks.*.attn.q' }], rng(1))
    const folder = await saved(tuned, tuned.params, { base: 'llama', embeddings: true })
    expect((await open(folder)).tuned.network).toBe(await model('llama'))
    await expect(open(folder, 'mistral')).rejects.toThrow(
      /is a frozen copy of (embed|head) that differs from this base/,
    )
    await expect(open(peftFolder('vocabulary-frozen'), 'llama')).rejects.toThrow(
      /embed_tokens.weight.*has shape \[99,48\], and embed is \[96,32\]: another base/,
    )
    const config = await readPeftConfig(peftFolder('vocabulary-frozen'))
    await expect(
      peftBase(peftFolder('vocabulary-frozen'), config, await model('llama3'), { sites: sitesOf }),
    ).rejects.toThrow(/its vocabulary has 99 rows; pass resizeVocabulary/)
  })

  it('leaves no tensor behind where it fails', async () => {
    const network = await model('llama')
    const config = await readPeftConfig(peftFolder('vocabulary-frozen'))
    const before = memory().numTensors
    await expect(peftBase(peftFolder('vocabulary-frozen'), config, network, surgeries)).rejects.toThrow()
    expect(memory().numTensors).toBe(before)
  })
})

describe('several adapters in one folder', () => {
  const folder = peftFolder('named')

  it('are found and read by their names, as PEFT writes them', async () => {
    expect(await adapterNames(folder)).toEqual(['first', 'second'])
    expect(await adapterNames(folder, ['second', 'third'])).toEqual(['second'])
    expect(await adapterNames(peftFolder('lora-qv'))).toEqual(['default'])
    const reference = await safetensors('peft/named/reference.safetensors')
    for (const name of ['first', 'second']) {
      const { tuned, params } = await open(namedAdapter(folder, name))
      const { logits } = tuned.forward(params, { ids: await intsOf(reference, 'input_ids') })
      expect(distance(logits.dataSync(), await reference.floats(`logits.${name}`))).toBeLessThan(1e-4)
    }
    await expect(readPeftConfig(folder)).rejects.toThrow(
      /has no adapter_config.json itself, but adapters by name: first, second; open one with namedAdapter\(folder, "first"\)/,
    )
    await expect(readPeftConfig(namedAdapter(folder, '../lora-qv'))).rejects.toThrow(/cannot be that of a folder/)
  })

  it('are written to the same places, the one called default to the folder itself', async () => {
    const sinks = blobSinks()
    const all = new Map<string, Params>()
    for (const name of ['first', 'second', 'default']) {
      const { tuned, params } = await open(namedAdapter(folder, name === 'default' ? 'first' : name))
      all.set(name, params)
      await savePeft(sinks.open, tuned, params, { name, base: 'llama' })
    }
    const files = (dir: string): string[] => [`${dir}adapter_config.json`, `${dir}adapter_model.safetensors`]
    expect([...sinks.blobs().keys()].sort()).toEqual([...files(''), ...files('first/'), ...files('second/')])
    const written: Folder = blobFolder(sinks.blobs())
    expect(await adapterNames(written)).toEqual(['default', 'first', 'second'])
    for (const [name, params] of all) {
      const again = await open(namedAdapter(written, name))
      for (const [key, p] of Object.entries(params))
        expect(distance(again.params[key]!.dataSync(), p.dataSync())).toBe(0)
    }
    const { tuned, params } = await open(namedAdapter(folder, 'first'))
    await expect(savePeft(sinks.open, tuned, params, { name: 'a/b' })).rejects.toThrow(
      /"a\/b" cannot be that of a folder/,
    )
  })
})

describe('activated LoRA by PEFT', () => {
  it('has its gradients and generates its text', async () => {
    const { tuned, params } = await open(peftFolder('alora'))
    const reference = await safetensors('peft/alora/reference.safetensors')
    const ids = await intsOf(reference, 'input_ids')
    const [B, T] = ids.shape as [number, number]
    const flat = Array.from(await reference.ints('input_ids'))
    const { grads, loss } = backprop(
      (p) =>
        nextToken(tuned.run(p, { ids }), {
          shape: [B, T],
          targets: Int32Array.from(flat, (_, i) => ((i + 1) % T ? flat[i + 1]! : -100)),
        }),
      params,
    )
    expect(loss.dataSync()[0]).toBeCloseTo((await reference.floats('loss'))[0]!, 5)
    for (const { site, prefix } of tuned.bound)
      for (const [key, part] of [
        ['a', 'lora_A'],
        ['b', 'lora_B'],
      ]) {
        const want = await reference.floats(`grad.base_model.model.${site.module}.${part}.default.weight`)
        const size = want.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
        expect(distance(grads[`${prefix}.${key}`]!.dataSync(), want) / size, prefix).toBeLessThan(1e-3)
      }
    const generated = Array.from(await reference.ints('generated'))
    const [answer] = await complete(tuned, [generated.slice(0, 8)], { params, maxTokens: 8, ends: [] })
    expect(answer!.ids).toEqual(generated.slice(8))
    expect(generated.slice(0, 8).join()).toContain('5,9')
  })
})

it('tables without a site are modules to save: GPT-2’s positions, token types of BERT', async () => {
  const bert = await loadNetwork(nodeFolder(`${fixtures}models/bert`))
  const config = peftConfig({ ...good, target_modules: ['query'], modules_to_save: ['token_type_embeddings'] })
  const start = fromPeft(config, bert, sitesOf(bert))
  expect(start.options.train).toEqual(['types'])
  const tuned = attach(start.network, start.attachments, rng(0), start.options)
  const file = await openCheckpoint(await saved(tuned, tuned.params, { task: null }), { stem: 'adapter_model' })
  expect(file.entry('base_model.model.bert.embeddings.token_type_embeddings.weight').shape).toEqual([2, 32])
  const { tuned: gpt2 } = await open(peftFolder('table-saved'))
  expect(Object.keys(gpt2.params)).toContain('positions')
})
