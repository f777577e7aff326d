import { attach, sitesOf, type Tuned } from '@weftjs/model'
import { add, cpu, rng } from '@weftjs/tensor'
import { blobSink, type Folder } from '@weftjs/tensor/checkpoint'
import { describe, expect, it } from 'vitest'
import {
  fromPeft,
  loadPeft,
  lora,
  namedAdapter,
  peftConfig,
  readPeftConfig,
  savePeft,
  toPeft,
  withAdapters,
  xLora,
} from '../src/index.ts'
import { distance, model, peftFolder, saved } from './fixture.ts'

await cpu()
const gpt2 = await model('gpt2')

const at = ['model', 'norm', 'head', 'blocks.*.attn.{q,v}']
const on = async (options: object = {}): Promise<Tuned> => {
  const options_ = { rank: 2, depth: 2, width: 5, ...options }
  return attach(await model('llama3'), [{ adapter: xLora(options_), at }], rng(1))
}
/** a folder without some of its files, or with others */
const without = (folder: Folder, odd: RegExp, text?: string): Folder => ({
  ...folder,
  has: async (file) => (odd.test(file) ? text !== undefined : folder.has(file)),
  text: async (file) => (odd.test(file) ? text! : folder.text(file)),
})

describe("an X-LoRA in PEFT's layout", () => {
  it('has a folder for each LoRA, whose α/r is its own', async () => {
    const tuned = await on({ alpha: [4, 6], trainExperts: true })
    const start = await saved(tuned, tuned.params, { name: 'mixed', base: 'llama3' })
    const folder = namedAdapter(start, 'mixed')
    const alphas = ['0', '1'].map(async (n) => (await readPeftConfig(namedAdapter(folder, n)))['lora_alpha'])
    expect(await Promise.all(alphas)).toEqual([4, 6])
    expect((await readPeftConfig(namedAdapter(folder, '1'))).base_model_name_or_path).toBe('llama3')
    // read for an adapter with other factors, B makes up for them
    const other = await on({ alpha: 1, trainExperts: true })
    const params = (await loadPeft(folder, other)).params
    const name = 'blocks.0.attn.q.x-lora.b'
    const moved = { ...tuned.params, [name]: add(tuned.params[name]!, 1) }
    const again = await loadPeft(await saved(tuned, moved), other)
    expect(
      distance(
        await again.params[name]!.data(),
        Float32Array.from(params[name]!.dataSync(), (_, i) => (i % 4 < 2 ? 4 : 6)),
      ),
    ).toBeLessThan(1e-6)
  })

  it('is read again for a model whose modules PEFT would not find', async () => {
    const places = ['model', 'norm', 'head', 'blocks.*.attn.qkv']
    const mixed = { adapter: xLora({ rank: 2, trainExperts: true }), at: places }
    const [tuned, other] = [1, 2].map((seed) => attach(gpt2, [mixed], rng(seed)))
    const { params } = await loadPeft(await saved(tuned!, tuned!.params), other!)
    for (const n of Object.keys(tuned!.params))
      expect(distance(await params[n]!.data(), await tuned!.params[n]!.data())).toBe(0)
  })

  it('lies where its LoRAs do, or they are named', async () => {
    const gate = without(peftFolder('xlora'), /^\d\//)
    await expect(readPeftConfig(gate)).rejects.toThrow('mixes the LoRA "0", and there is no 0/adapter_config.json')
    const whole = withAdapters(gate, {
      0: namedAdapter(peftFolder('xlora'), '0'),
      1: namedAdapter(peftFolder('xlora'), '1'),
    })
    const config = await readPeftConfig(whole)
    const base = await model('llama3')
    const start = fromPeft(config, base, sitesOf(base))
    const tuned = attach(start.network, start.attachments, rng(0))
    const [a, b] = [await loadPeft(whole, tuned), await loadPeft(peftFolder('xlora'), tuned)]
    for (const n of Object.keys(b.constants))
      expect(distance(await a.constants[n]!.data(), await b.constants[n]!.data())).toBe(0)
  })

  it('says what it cannot be read from', async () => {
    const base = await model('llama3')
    const plain = JSON.parse(await peftFolder('xlora').text('adapter_config.json')) as Record<string, unknown>
    const read = (file: RegExp, more: object): Promise<unknown> =>
      readPeftConfig(without(peftFolder('xlora'), file, JSON.stringify(more)))
    await expect(read(/^adapter_config/, { ...plain, adapters: {} })).rejects.toThrow('names no adapters')
    await expect(read(/^adapter_config/, { ...plain, top_k_lora: 0 })).rejects.toThrow(
      'top_k_lora must be a whole number',
    )
    const own = JSON.parse(await peftFolder('xlora').text('1/adapter_config.json')) as Record<string, unknown>
    await expect(read(/^1\/adapter_config/, { ...own, bias: 'all' })).rejects.toThrow(
      "1/adapter_config.json: has trained more than LoRA's two factors",
    )
    await expect(read(/^1\/adapter_config/, { ...own, use_dora: true })).rejects.toThrow('use_dora is true')
    expect(() => fromPeft(peftConfig(plain), base, sitesOf(base))).toThrow('lies in several folders')
    await expect(loadPeft(peftFolder('xlora'), await on({ experts: 3, layerwise: true }))).rejects.toThrow(
      /mixes 2 LoRAs|was trained with/,
    )
    const config = await readPeftConfig(peftFolder('xlora'))
    const start = fromPeft(config, base, sitesOf(base))
    const tuned = attach(start.network, start.attachments, rng(0))
    const wider = without(peftFolder('xlora'), /^0\/adapter_config/, JSON.stringify({ ...own, r: 3 }))
    await expect(loadPeft(wider, tuned)).rejects.toThrow(/lora_A.weight.*has shape \[2,48\], and \[3,48\] is needed/)
  })

  it('says what it cannot be written for, and leaves nothing half written', async () => {
    const files: string[] = []
    const sink = (file: string) => {
      files.push(file)
      return blobSink()
    }
    const tuned = await on()
    expect(() => toPeft(tuned, tuned.params)).toThrow(
      "'x-lora' has several files in PEFT's layout; savePeft writes them",
    )
    const two = attach(
      await model('llama3'),
      [
        { adapter: xLora({ rank: 2 }), at },
        { adapter: lora(), at: 'blocks.0.mlp.up' },
      ],
      rng(1),
    )
    await expect(savePeft(sink, two, two.params)).rejects.toThrow(
      'blocks.0.mlp.up: an X-LoRA file holds nothing beside it',
    )
    const whole = attach(await model('llama3'), [{ adapter: xLora({ rank: 2 }), at }], rng(1), { train: ['norm'] })
    await expect(savePeft(sink, whole, whole.params)).rejects.toThrow('norm: trained beside an X-LoRA')
    expect(files).toEqual([])
  })
})
