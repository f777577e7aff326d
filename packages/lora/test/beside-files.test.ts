import { attach, sitesOf, tunedOf } from '@weftjs/model'
import type { Adapter } from '@weftjs/spec'
import { rng, tensor } from '@weftjs/tensor'
import { expect, it } from 'vitest'
import {
  compacter,
  fromPeft,
  hydra,
  iaa,
  loadPeft,
  mam,
  mixda,
  mosa,
  parallel,
  polyhistor,
  prefix,
  qst,
  readPeftConfig,
  series,
  ssf,
  vlPet,
} from '../src/index.ts'
import { gap, moved } from './beside.ts'
import { model, saved } from './fixture.ts'

const HALVES = 'blocks.*.{attn,mlp}'
const task = tensor([1], [1], 'int32')
const ids = tensor([1, 2, 3, 4, 5, 6], [1, 6], 'int32')

it.each<[name: string, factory: (options: any) => Adapter<any>, options: object, at: string | string[]]>([
  ['series', series, { width: 3, scale: 'learned' }, HALVES],
  ['parallel', parallel, { width: 3, activation: 'identity' }, '**.{q,v}'],
  ['prefix', prefix, { length: 3, hidden: 4 }, '**.core'],
  ['mam', mam, { prefix: { length: 2 }, adapter: { width: 3 } }, ['**.core', 'blocks.*.mlp']],
  ['hydra', hydra, { parallel: 2, sequential: 2, bias: true }, '**.{o,down}'],
  ['ssf', ssf, {}, ['**.{q,down}', '**.norm*', 'norm']],
  ['vlPet', vlPet, { width: 3, granularity: 'middleX' }, [HALVES, '**.v']],
  ['iaa', iaa, { inside: 2, aside: 2, carried: true }, ['blocks.*', HALVES, 'norm']],
  ['compacter', compacter, { reduction: 2, terms: 2 }, HALVES],
  ['polyhistor', polyhistor, { embedding: 3, rank: 2, reduction: 4, tasks: 2 }, 'blocks.*.mlp'],
  ['mosa', mosa, { width: 4, split: 'both' }, 'blocks.*.mlp'],
  ['mixda', mixda, { domains: 2, reduction: 4, gateWidth: 3, stage: 2 }, 'blocks.*.mlp.down'],
  ['qst', qst, { reduction: 2, rank: 3, alpha: 0.4 }, ['blocks.*', 'norm']],
])("%s is written to PEFT's folder and read back by a stranger", async (_, factory, options, at) => {
  const network = await model('llama3')
  const tuned = attach(network, [{ adapter: factory(options), at }], rng(0))
  const params = moved(tuned, 0.2)
  const folder = await saved(tuned, params)
  const make = (_: string, given: object): Adapter<any> => factory(given)
  const start = fromPeft(await readPeftConfig(folder), network, sitesOf(network), { make })
  const fresh = attach(start.network, start.attachments, rng(7), start.options)
  const read = await loadPeft(folder, fresh, { make })
  const again = tunedOf({ ...fresh, constants: read.constants })
  const [a, b] = [tuned.forward(params, { ids, task }).logits, again.forward(read.params, { ids, task }).logits]
  expect(await gap(a, b)).toBe(0)
  expect(await gap(a, attach(network, [], rng(0)).forward({}, { ids }).logits)).toBeGreaterThan(1e-3)
})
