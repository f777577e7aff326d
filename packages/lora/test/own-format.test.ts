import { attach, sitesOf, tunedOf } from '@weftjs/model'
import type { Adapter, Site, Tensor1D, Tensor2D } from '@weftjs/spec'
import { add, cpu, mapParams, rng, tensor, zeros } from '@weftjs/tensor'
import { openCheckpoint } from '@weftjs/tensor/checkpoint'
import { expect, it } from 'vitest'
import { fromPeft, formats as known, loadPeft, lora, type PeftFormat, readPeftConfig } from '../src/index.ts'
import { distance, model, saved } from './fixture.ts'

await cpu()

const ids = tensor([1, 2, 3, 4, 5, 6], [1, 6], 'int32')

/** y + s: a method that stands beside a LoRA in a field of the caller's own */
const shift = (): Adapter<{ s: Tensor1D }> => ({
  name: 'shift',
  options: {},
  init: ({ out }) => ({ state: { s: zeros([out]) as Tensor1D } }),
  around: (next, x, { s }) => add(next(x), s),
})
const besideLora: PeftFormat = {
  ...{ type: 'SHIFT', method: 'shift', fields: {}, parts: { s: 'shift' }, make: shift },
  beside: {
    ...{ key: 'shifted', types: ['LORA'], parts: { s: 'shift' } },
    read: (value, sites) => ({
      options: {},
      targets: sites.filter((s) => (value as string[]).includes(s.module ?? '')),
    }),
    write: (_, targets) => targets.map((s: Site) => s.module),
  },
}

it("what stands beside a LoRA by a format of the caller's own is saved and read with it", async () => {
  const formats = [...known, besideLora]
  const network = await model('llama3')
  const attachments = [
    { adapter: lora({ rank: 2 }), at: 'blocks.*.attn.q' },
    { adapter: shift(), at: 'blocks.1.mlp.up' },
  ] as const
  const tuned = attach(network, attachments, rng(0))
  const params = mapParams(tuned.params, (p, n) => add(p, rng(1).fork(n).normal(p.shape)))
  const folder = await saved(tuned, params, { formats })
  const config = await readPeftConfig(folder, { formats })
  expect(config).toMatchObject({ peft_type: 'LORA', shifted: ['model.layers.1.mlp.up_proj'] })
  const start = fromPeft(config, network, sitesOf(network), { formats })
  const fresh = attach(start.network, start.attachments, rng(7), start.options)
  const read = await loadPeft(folder, fresh, { formats })
  const [a, b] = [tuned.forward(params, { ids }), tunedOf(fresh).forward(read.params, { ids })]
  expect(distance(await a.logits.data(), await b.logits.data())).toBe(0)
  // the config that it came from is kept where it still says what is true
  const again = await readPeftConfig(await saved(fresh, read.params, { formats, config: { ...config, mine: 7 } }))
  expect(again['mine']).toBe(7)
})

it("a format of the caller's own may say that no frozen embedding goes with its adapter", async () => {
  const move = (): Adapter<{ d: Tensor2D }> => ({
    name: 'move',
    options: {},
    init: ({ out }) => ({ state: { d: zeros([1, out]) as Tensor2D } }),
    around: (next, x, { d }) => add(next(x), d),
  })
  const format = { type: 'MOVE', method: 'move', fields: {}, parts: { d: 'moved' }, make: move }
  const tuned = attach(await model('llama3'), [{ adapter: move(), at: 'embed' }], rng(0))
  const names = async (bare: boolean): Promise<readonly string[]> => {
    const folder = await saved(tuned, tuned.params, { formats: [{ ...format, bare }] })
    return (await openCheckpoint(folder, { stem: 'adapter_model' })).names
  }
  const own = 'base_model.model.model.embed_tokens.moved'
  expect(await names(true)).toEqual([own])
  expect([...(await names(false))].sort()).toEqual(['base_model.model.model.embed_tokens.base_layer.weight', own])
})
