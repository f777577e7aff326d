import { attach, loadNetwork } from '@weftjs/model'
import { cpu, rng, tensor } from '@weftjs/tensor'
import { openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { expect, it } from 'vitest'
import { fromPacked } from '../src/index.ts'

const folder = (name: string): string => new URL(`../../testkit/fixtures/models/${name}`, import.meta.url).pathname

it.each([
  ['llama-int8', 'transformers with bitsandbytes', 'int8'],
  ['llama-fp8', 'compressed-tensors', 'fp8'],
  ['llama-hqq', 'hqq', 'hqq'],
])('%s, written by %s, gives the logits of its weights', async (name, _, format) => {
  await cpu()
  const network = await loadNetwork(nodeFolder(folder(name)), { packed: fromPacked })
  const packed = Object.entries(network.weights).filter(([, w]) => w.codec)
  expect(packed.map(([, w]) => w.format)).toEqual(Array.from({ length: 14 }, () => format))
  const file = await openSafetensors(await fromFile(`${folder(name)}/reference.safetensors`))
  const ids = tensor(await file.ints('input_ids'), file.entry('input_ids').shape as number[], 'int32')
  const found = attach(network, [], rng(0)).forward({}, { ids }).logits.dataSync()
  const wanted = await file.floats('logits')
  const size = Math.max(...wanted.map(Math.abs))
  expect(found.length).toBe(wanted.length)
  found.forEach((v, i) => {
    expect(Math.abs(v - wanted[i]!)).toBeLessThan(1e-5 * size)
  })
  await file.close()
})
