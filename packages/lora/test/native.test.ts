import { attach, sitesOf, tunedOf } from '@weftjs/model'
import type { Adapter, Tensor1D } from '@weftjs/spec'
import { add, cpu, mapParams, mul, rng, tensor } from '@weftjs/tensor'
import { openCheckpoint } from '@weftjs/tensor/checkpoint'
import { expect, it } from 'vitest'
import { fromPeft, loadPeft, readPeftConfig } from '../src/index.ts'
import { distance, model, saved } from './fixture.ts'

await cpu()

/** a method that PEFT does not have, at places that are no modules of a checkpoint, with a tensor common to all */
const tilt = ({ by = 1 }: { by?: number } = {}): Adapter<{ s: Tensor1D }> => ({
  name: 'tilt',
  options: { by },
  init: (site, { rng, shared }) => {
    shared('common', (r) => r.normal([site.out]), { trains: true })
    shared('order', () => tensor([3, 1, 2], [3], 'int32'))
    return { state: { s: rng.normal([site.out]) as Tensor1D } }
  },
  around: (next, x, { s }, { shared }) => add(next(x), mul(x, mul(by, add(s, shared['common']!)))),
})

const ids = tensor([1, 2, 3, 4, 5, 6], [1, 6], 'int32')

it("is kept in PEFT's folder under a name of its own, places, options and shared tensors included", async () => {
  const network = await model('llama3')
  const tuned = attach(network, [{ adapter: tilt({ by: 0.3 }), at: 'blocks.*.mlp' }], rng(0))
  const params = mapParams(tuned.params, (p, n) => add(p, rng(1).fork(n).normal(p.shape)))
  const folder = await saved(tuned, params)
  const config = await readPeftConfig(folder)
  expect(config).toMatchObject({ peft_type: 'WEFT_TILT', weft_method: 'tilt', weft_options: { by: 0.3 } })
  const file = await openCheckpoint(folder, { stem: 'adapter_model' })
  expect([...file.names].sort()).toEqual([
    'base_model.model.weft.blocks.0.mlp.tilt_s',
    'base_model.model.weft.blocks.1.mlp.tilt_s',
    'base_model.tilt_common',
    'base_model.tilt_order',
  ])
  expect(() => fromPeft(config, network, sitesOf(network))).toThrow(/method 'tilt', which PEFT does not have/)
  const make = (_: string, options: object): Adapter<any> => tilt(options)
  const start = fromPeft(config, network, sitesOf(network), { make })
  const fresh = attach(start.network, start.attachments, rng(7), start.options)
  const read = await loadPeft(folder, fresh, { make })
  expect(Object.keys(read.constants)).toEqual(['tilt.shared.order'])
  const again = tunedOf({ ...fresh, constants: read.constants })
  const [a, b] = [tuned.forward(params, { ids }).logits, again.forward(read.params, { ids }).logits]
  expect(distance(await a.data(), await b.data())).toBe(0)
})
