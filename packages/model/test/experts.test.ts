import { readFile } from 'node:fs/promises'
import type { Adapter, Params, Scalar, Tensor, Tensor2D } from '@weftjs/spec'
import { backprop, cpu, rng, sum, tensor } from '@weftjs/tensor'
import { blobFolder } from '@weftjs/tensor/checkpoint'
import { lowRank, sum as plus } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { attach, type ForwardOptions, initNetwork, loadNetwork, nextToken, sitesOf, type Tuned } from '../src/index.ts'
import { distance, fixture, largest, models } from './fixture.ts'

await cpu()
const FAMILIES = ['mixtral', 'qwen2_moe', 'qwen3_moe'] as const
const values = (t: Tensor): Float32Array => t.dataSync<'float32'>()

/** W + B·A with noise in both, so that it acts from the start */
const noisy: Adapter<{ a: Tensor2D; b: Tensor2D }> = {
  name: 'noisy',
  init: ({ weight }, { rng }) => ({
    state: {
      a: rng.normal([2, weight!.shape[1]], 0.3) as Tensor2D,
      b: rng.normal([weight!.shape[0], 2], 0.3) as Tensor2D,
    },
  }),
  weight: (base, { a, b }) => plus(base, lowRank(b, a)),
}
const MATRICES = ['blocks.*.mlp.experts.*.*', 'blocks.*.mlp.router']

const batchOf = async (name: string): Promise<{ ids: Tensor; targets: Int32Array; shape: [number, number] }> => {
  const { reference, int } = await fixture(name)
  const [B, T] = reference.entry('input_ids').shape as [number, number]
  const ids = Array.from(await reference.ints('input_ids'))
  const targets = Int32Array.from(ids, (_, i) => ((i + 1) % T ? ids[i + 1]! : -100))
  return { ids: await int('input_ids'), targets, shape: [B, T] }
}

describe.each(FAMILIES)('%s', (name) => {
  const lossOf =
    (tuned: Tuned, batch: Awaited<ReturnType<typeof batchOf>>, options: ForwardOptions) =>
    (params: Params): Scalar =>
      nextToken(tuned.run(params, { ids: batch.ids }, options), batch)

  it("adds transformers' load-balancing loss where it is asked for, and its gradient", async () => {
    const { network, reference } = await fixture(name)
    const batch = await batchOf(name)
    const tuned = attach(network, [], rng(0), { train: 'blocks.*.mlp.router' })
    const { balance, balanced } = network.config.experts!
    expect([balance, balanced]).toEqual([0.1, false])
    const at = (options: ForwardOptions): Tensor | undefined => tuned.run({}, { ids: batch.ids }, options).penalty
    expect(at({ training: true })).toBeUndefined()
    const [want] = await reference.floats('balance')
    expect(values(at({ balance: 1 })!)[0]).toBeCloseTo(want!, 5)
    const found = backprop(lossOf(tuned, batch, { balance }), tuned.params)
    expect(values(found.loss)[0]).toBeCloseTo((await reference.floats('balanced_loss'))[0]!, 4)
    const routers = sitesOf(network).filter((s) => s.name in tuned.params)
    expect(routers).toHaveLength(name === 'qwen3_moe' ? 1 : 2)
    for (const { name, module } of routers) {
      const grad = await reference.floats(`balanced_grad.${module}.weight`)
      expect(distance(values(found.grads[name]!), grad) / largest(grad), name).toBeLessThan(1e-3)
    }
    // as its config may say for every training pass
    const asking = {
      ...network,
      config: { ...network.config, experts: { ...network.config.experts!, balanced: true } },
    }
    const pass = (options: ForwardOptions): Tensor | undefined =>
      attach(asking, [], rng(0)).run({}, { ids: batch.ids }, options).penalty
    expect(values(pass({ training: true })!)[0]).toBeCloseTo(0.1 * want!, 5)
    expect([pass({}), pass({ training: true, balance: 0 })]).toEqual([undefined, undefined])
    expect(() => pass({ training: true, recompute: true })).toThrow(/balance:.*turn recompute off/)
  })

  it('counts real tokens only: padding changes no balance', async () => {
    const { network } = await fixture(name)
    const tuned = attach(network, [], rng(0))
    const ids = [5, 9, 14, 23, 42]
    const of = (inputs: Params): number => values(tuned.run({}, inputs, { balance: 1 }).penalty!)[0]!
    const alone = of({ ids: tensor(ids, [1, 5], 'int32') })
    const padded = tensor([...ids, 0, 0, 0], [1, 8], 'int32')
    const real = tensor([1, 1, 1, 1, 1, 0, 0, 0], [1, 8], 'int32')
    expect(of({ ids: padded, mask: real })).toBeCloseTo(alone, 5)
    expect(of({ ids: padded, segments: real })).toBeCloseTo(alone, 5)
    expect(of({ ids: padded })).not.toBeCloseTo(alone, 3)
  })

  it('gives each expert its own tokens; all experts on all tokens, masked, come to the same, and so do gradients', async () => {
    const { network } = await fixture(name)
    const batch = await batchOf(name)
    const seen = new Map<string, number>()
    const count: Adapter<Record<never, never>> = {
      name: 'count',
      init: () => ({ state: {} }),
      around: (next, x, _, { site }) => {
        seen.set(site.name, x.size / x.shape.at(-1)!)
        return next(x)
      },
    }
    const watching = attach(network, [{ adapter: count, at: 'blocks.1.mlp.experts.*.*' }], rng(0))
    watching.forward({}, { ids: batch.ids })
    const N = batch.ids.size
    const { count: E, active } = network.config.experts!
    expect([...seen.values()].reduce((a, b) => a + b)).toBe(3 * active * N)
    expect(Math.max(...seen.values())).toBeLessThan(N)
    seen.clear()
    // rows of the batch that are told apart: x keeps its shape, so that all experts see all of it
    watching.forward({}, { ids: batch.ids }, { rows: [['count'], ['count']] })
    expect([...seen.values()]).toEqual(Array(3 * E).fill(N))

    const tuned = attach(network, [{ adapter: noisy, at: MATRICES }], rng(1), { train: 'blocks.*.mlp.router' })
    const rows = [
      ['noisy', 'whole'],
      ['noisy', 'whole'],
    ]
    const apart = backprop(lossOf(tuned, batch, {}), tuned.params)
    const whole = backprop(lossOf(tuned, batch, { rows }), tuned.params)
    expect(values(whole.loss)[0]).toBeCloseTo(values(apart.loss)[0]!, 5)
    for (const key of Object.keys(tuned.params)) {
      const want = values(whole.grads[key]!)
      expect(distance(values(apart.grads[key]!), want), key).toBeLessThan(1e-4 * Math.max(largest(want), 1e-3))
    }
    const again = backprop(lossOf(tuned, batch, { recompute: true }), tuned.params)
    for (const key of Object.keys(tuned.params))
      expect(distance(values(again.grads[key]!), values(apart.grads[key]!)), key).toBeLessThan(1e-5)
  })

  it('adapts every matrix of every expert, and folds', async () => {
    const { network } = await fixture(name)
    const { ids } = await batchOf(name)
    const tuned = attach(network, [{ adapter: noisy, at: MATRICES }], rng(1))
    const { layers, count } = network.config.experts!
    expect(tuned.bound).toHaveLength(layers.filter(Boolean).length * (3 * count + 1))
    const logits = values(tuned.forward(tuned.params, { ids }).logits)
    const folded = attach(tuned.fold(tuned.params), [], rng(0)).forward({}, { ids }).logits
    expect(distance(values(folded), logits)).toBeLessThan(1e-4)
    expect(distance(values(attach(network, [], rng(0)).forward({}, { ids }).logits), logits)).toBeGreaterThan(0.1)
  })

  it('gives each row of a batch the experts that its adapters make', async () => {
    const { network } = await fixture(name)
    const { ids } = await batchOf(name)
    const tuned = attach(network, [{ adapter: noisy, at: MATRICES }], rng(1))
    const both = values(tuned.forward(tuned.params, { ids }, { rows: [['noisy'], []] }).logits)
    const [one, none] = [['noisy'], []].map((adapters) =>
      values(tuned.forward(tuned.params, { ids }, { adapters }).logits),
    )
    const half = both.length / 2
    expect(distance(both.subarray(0, half), one!.subarray(0, half))).toBeLessThan(1e-4)
    expect(distance(both.subarray(half), none!.subarray(half))).toBeLessThan(1e-4)
  })
})

const tiny = {
  ...{ model_type: 'qwen3_moe', vocab_size: 11, hidden_size: 8, num_hidden_layers: 2, num_attention_heads: 2 },
  ...{ num_key_value_heads: 2, moe_intermediate_size: 6, intermediate_size: 12, max_position_embeddings: 16 },
  ...{ num_experts: 6, num_experts_per_tok: 2 },
}

it('leaves experts alone that no token goes to: no product, and a gradient of zero', () => {
  const network = initNetwork(tiny, rng(3))
  const tuned = attach(network, [], rng(0), { train: 'blocks.*.mlp.experts.**' })
  const ids = tensor([4], [1, 1], 'int32') // one token: two experts of six in each layer
  const { grads } = backprop((p) => sum(tuned.forward(p, { ids }).logits) as Scalar, tuned.params)
  const still = Object.values(grads).filter((g) => largest(values(g)) === 0)
  expect(Object.keys(grads)).toHaveLength(2 * 6 * 3)
  expect(still).toHaveLength(2 * 4 * 3)
})

describe('bad input', () => {
  it.each([
    [{ num_experts_per_tok: 7 }, /num_experts_per_tok \(7\) exceeds the 6 experts/],
    [{ num_experts: 0 }, /num_experts must be a whole number/],
    [{ mlp_only_layers: 'all' }, /mlp_only_layers must be a list of layers/],
    [{ norm_topk_prob: 1 }, /norm_topk_prob must be true or false/],
  ])('config.json with %j is refused by the field', (wrong, message) => {
    expect(() => initNetwork({ ...tiny, ...wrong }, rng(0))).toThrow(message)
  })

  it('a fused tensor of another shape is named', async () => {
    const read = (file: string): Promise<Buffer> => readFile(`${models}qwen3_moe-fused/${file}`)
    const config = { ...JSON.parse(String(await read('config.json'))), num_local_experts: 5 }
    const folder = blobFolder(
      new Map([
        ['config.json', new Blob([JSON.stringify(config)])],
        ['model.safetensors', new Blob([new Uint8Array(await read('model.safetensors'))])],
      ]),
    )
    await expect(loadNetwork(folder)).rejects.toThrow(
      /gate_up_proj.*has shape \[4,24,32\], and config.json makes it \[5,24,32\]/,
    )
  })
})
