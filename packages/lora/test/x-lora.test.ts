import { attach, sitesOf, tunedOf } from '@weftjs/model'
import { rng, tensor } from '@weftjs/tensor'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { describe, expect, it } from 'vitest'
import { xLoraFromPeft } from '../src/peft/x-lora.ts'
import { xLora } from '../src/x-lora.ts'
import { distance, fixtures, intsOf, model, safetensors } from './fixture.ts'
import { network } from './one.ts'

const folder = (name: string, part: string) => nodeFolder(`${fixtures}peft/mixtures/${name}/${part}`)

describe.each(['xlora', 'xlora-top', 'xlora-first'])('%s, gated by PEFT', (name) => {
  it("gives PEFT's logits", async () => {
    const base = await model('llama3')
    const found = await xLoraFromPeft(folder(name, 'gate'), [folder(name, '0'), folder(name, '1')], sitesOf(base))
    const tuned = attach(base, [found.attachment], rng(0))
    expect(Object.keys(found.params).sort()).toEqual(Object.keys(tuned.params).sort())
    for (const n of Object.keys(found.params)) expect(found.params[n]!.shape).toEqual(tuned.params[n]!.shape)
    const whole = tunedOf({ ...tuned, constants: { ...tuned.constants, ...found.constants } })
    const reference = await safetensors(`peft/mixtures/${name}/reference.safetensors`)
    const { logits } = whole.forward(found.params, { ids: await intsOf(reference, 'input_ids') })
    expect(distance(await logits.data(), await reference.floats('logits'))).toBeLessThan(1e-4)
  })
})

describe('x-lora', () => {
  const at = ['model', 'norm', 'head', 'blocks.*.attn.{q,v}']
  const ids = tensor([1, 2, 3, 4], [1, 4], 'int32')

  it('begins as the model, and trains the gate alone unless told otherwise', async () => {
    const tuned = attach(network, [{ adapter: xLora({ rank: 2, depth: 2, width: 5 }), at }], rng(1))
    expect(Object.keys(tuned.params)).toEqual(['w0', 'b0', 'w1', 'b1'].map((k) => `model.x-lora.${k}`))
    const plain = attach(network, [], rng(0)).forward({}, { ids }).logits
    const [a, b] = [await tuned.forward(tuned.params, { ids }).logits.data(), await plain.data()]
    expect(distance(a, b)).toBeLessThan(1e-5)
  })

  it('says where it must stand, and what does not fit', async () => {
    expect(() => attach(network, [{ adapter: xLora(), at: 'blocks.*.attn.q' }], rng(1))).toThrow(
      'blocks.0.attn.q: x-lora reads the hidden states of a first pass; put it on "model", "norm" and "head"',
    )
    expect(() => xLora({ experts: 2, top: 3 })).toThrow('x-lora: top 3 exceeds the 2 experts')
    expect(() => xLora({ experts: 3, alpha: [1, 2] })).toThrow('3 experts have 2 values of alpha')
    const base = await model('llama3')
    await expect(xLoraFromPeft(folder('xlora', 'gate'), [folder('xlora', '0')], sitesOf(base))).rejects.toThrow(
      'names 2 adapters, and 1 folders were given',
    )
    await expect(xLoraFromPeft(folder('xlora', '0'), [], sitesOf(base))).rejects.toThrow('peft_type must be "XLORA"')
  })
})
