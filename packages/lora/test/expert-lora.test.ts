import { attach, complete, nextToken, type Tuned } from '@weftjs/model'
import type { Params } from '@weftjs/spec'
import { add, backprop, countParams, cpu, mapParams, rng, slice, type Tensor, tensor } from '@weftjs/tensor'
import { openCheckpoint } from '@weftjs/tensor/checkpoint'
import { describe, expect, it } from 'vitest'
import { expertLora, trainable } from '../src/expert-lora.ts'
import { lora } from '../src/lora.ts'
import { peftConfig } from '../src/peft/config.ts'
import { fromPeft } from '../src/peft/load.ts'
import { distance, model, open, peftFolder, saved } from './fixture.ts'

await cpu()
const ALL = 'blocks.*.mlp.experts.*.*'
const network = await model('qwen3_moe')
const ids = tensor([4, 9, 14, 23, 42, 7, 11, 30, 5, 61, 17, 80], [2, 6], 'int32')
const moved = ({ params }: Tuned): Params => mapParams(params, (p, n) => add(p, rng(9).fork(n).normal(p.shape, 0.3)))
const tuned = attach(network, [{ adapter: expertLora({ rank: 3, alpha: 5 }), at: ALL }], rng(1))
const params = moved(tuned)

describe('expert-lora', () => {
  it('trains A once for gate and up of an expert, and as much as PEFT: r·E·(in + out) of each parameter', () => {
    const { width: D, experts } = network.config
    const [E, F] = [experts!.count, experts!.hidden]
    expect(countParams(tuned.params)).toBe(3 * E * (D + 2 * F) + 3 * E * (F + D))
    const own = tuned.bound.reduce((n, { site }) => n + trainable(site, { rank: 3 }), 0)
    expect(countParams(tuned.params)).toBe(own + 3 * E * D)
    expect(Object.keys(tuned.params).filter((n) => n.includes('.shared.'))).toHaveLength(E)
  })

  it('is the LoRA of each matrix by itself where gate and up have the same A', () => {
    const plain = attach(network, [{ adapter: lora({ rank: 3, alpha: 5 }), at: ALL }], rng(1))
    const same = Object.fromEntries(
      plain.bound.flatMap(({ site, prefix }) => {
        const mine = `${site.name}.expert-lora`
        const a = params[`${mine}.a`] ?? params[`expert-lora.shared.${site.fused!.parameter}.${site.fused!.expert}`]!
        return [
          [`${prefix}.a`, a],
          [`${prefix}.b`, params[`${mine}.b`]!],
        ]
      }),
    )
    const [one, two] = [tuned.forward(params, { ids }), plain.forward(same, { ids })]
    expect(distance(one.logits.dataSync(), two.logits.dataSync())).toBeLessThan(1e-6)
    const folded = attach(tuned.fold(params), [], rng(0)).forward({}, { ids })
    expect(distance(folded.logits.dataSync(), one.logits.dataSync())).toBeLessThan(1e-4)
  })

  it('leaves out what it does not reach, trains what it does, and generates', async () => {
    const of = (options: { recompute: boolean }): Params =>
      backprop(
        (p) =>
          nextToken(tuned.run(p, { ids }, { training: true, ...options }), {
            shape: [2, 6],
            targets: Int32Array.from({ length: 12 }, (_, i) => (i % 6 === 5 ? -100 : ids.dataSync()[i + 1]!)),
          }),
        params,
      ).grads
    const [once, twice] = [of({ recompute: false }), of({ recompute: true })]
    for (const [name, g] of Object.entries(once)) {
      expect(distance(g.dataSync(), twice[name]!.dataSync()), name).toBeLessThan(1e-6)
      expect(distance(g.dataSync(), new Float32Array(g.size)), name).toBeGreaterThan(0)
    }
    const [a] = await complete(tuned, [[4, 9, 14]], { params, maxTokens: 5, ends: [] })
    const b = attach(tuned.fold(params), [], rng(0))
    expect(a!.ids).toEqual((await complete(b, [[4, 9, 14]], { maxTokens: 5, ends: [] }))[0]!.ids)
  })

  it("stands in PEFT's file as one tensor for all experts: A below each other, B with its columns interleaved", async () => {
    const folder = await saved(tuned, params, { base: 'qwen3_moe' })
    const file = await openCheckpoint(folder, { stem: 'adapter_model' })
    const at = 'base_model.model.model.layers.1.mlp.experts'
    expect([...file.names].sort()).toEqual([
      `${at}.base_layer.lora_A.weight`,
      `${at}.base_layer.lora_B.weight`,
      `${at}.lora_A.weight`,
      `${at}.lora_B.weight`,
    ])
    const { hidden: F } = network.config.experts!
    const b = tensor(await file.floats(`${at}.base_layer.lora_B.weight`), [2 * F, 3 * 4])
    const up = params['blocks.1.mlp.experts.2.up.expert-lora.b'] as Tensor // rank column 1 of expert 2
    const column = slice(b, [F, 1 * 4 + 2], [F, 1]).dataSync()
    expect([...column]).toEqual([...slice(up, [0, 1], [F, 1]).dataSync()])
    const a = tensor(await file.floats(`${at}.base_layer.lora_A.weight`), [3 * 4, network.config.width])
    const shared = params['expert-lora.shared.model.layers.1.mlp.experts.gate_up_proj.2'] as Tensor
    expect([...slice(a, [6, 0], [3, -1]).dataSync()]).toEqual([...shared.dataSync()])
    const again = await open(folder)
    for (const [name, p] of Object.entries(params))
      expect(distance(again.params[name]!.dataSync(), p.dataSync()), name).toBe(0)
  })
})

describe('bad input', () => {
  const config = {
    peft_type: 'LORA',
    r: 2,
    lora_alpha: 4,
    target_modules: [],
    target_parameters: ['experts.down_proj'],
  }
  it.each([
    [{ target_parameters: [7] }, /target_parameters\[0\] must be a string/],
    [{ lora_dropout: 0.1 }, /lora_dropout is 0.1, which is not supported/],
    [{ lora_bias: true }, /lora_bias is true, which is not supported/],
    [{ use_dora: true }, /(use_dora|target_parameters) is .*which is not supported/],
  ])('a config with %j is refused', (wrong, message) => {
    expect(() => peftConfig({ ...config, ...wrong })).toThrow(message)
  })

  it('names parameters where none matches, and a parameter that is not adapted whole', async () => {
    const odd = peftConfig({ ...config, target_parameters: ['experts.w1'] })
    expect(() => fromPeft(odd, network, tuned.sites)).toThrow(
      /no parameter of this model matches .*; it has .*layers\.1\.mlp\.(experts\.gate_up_proj|gate\.weight)|q_proj/,
    )
    const some = attach(network, [{ adapter: expertLora({ rank: 2 }), at: 'blocks.1.mlp.experts.{0,1}.down' }], rng(0))
    await expect(saved(some, some.params)).rejects.toThrow(
      /experts\.0\.down: PEFT adapts .*down_proj whole, and here are 2 of its 4 matrices/,
    )
    const uneven = { rank: 2, rankPattern: { 'experts\\.1\\.gate': 3 } }
    expect(() => attach(network, [{ adapter: expertLora(uneven), at: ALL }], rng(0))).toThrow(
      /experts\.1\.up: rank 2, and gate and up of one expert share an A of rank 3/,
    )
  })

  it('an adapter of another number of experts is refused by its shapes', async () => {
    const start = fromPeft(peftConfig({ ...config, r: 3 }), network, tuned.sites)
    const other = attach(start.network, start.attachments, rng(0))
    const { loadPeft } = await import('../src/peft/load.ts')
    await expect(loadPeft(peftFolder('experts-down-router'), other)).rejects.toThrow(
      /was trained with (r|lora_alpha|use_rslora)/,
    )
  })
})
