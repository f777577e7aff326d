import { int8, quantize } from '@weftjs/quant'
import type { Params } from '@weftjs/spec'
import { applyUpdates, backprop, countParams, cpu, mul, rng, tensor } from '@weftjs/tensor'
import { blobFolder, blobSinks } from '@weftjs/tensor/checkpoint'
import { tensorsOf } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { attach, complete, loadNetwork, nextToken, saveNetwork, sitesOf, upcycle } from '../src/index.ts'
import { distance, fixture } from './fixture.ts'

await cpu()
const ids = tensor([5, 9, 14, 23, 42, 7], [1, 6], 'int32')
const logitsOf = (network: Parameters<typeof attach>[0]): Float32Array =>
  attach(network, [], rng(0)).forward({}, { ids }).logits.dataSync<'float32'>()
const saved = async (network: Parameters<typeof saveNetwork>[0]): Promise<Awaited<ReturnType<typeof loadNetwork>>> => {
  const written = blobSinks()
  await saveNetwork(network, written.open)
  return loadNetwork(blobFolder(written.blobs()), { onIgnored: (names) => expect(names).toEqual([]) })
}
/** one step down the gradient of everything */
const trained = (network: Parameters<typeof attach>[0]): Params => {
  const { params, run } = attach(network, [], rng(0), { train: '**' })
  const batch = { shape: [1, 6] as const, targets: Int32Array.from([9, 14, 23, 42, 7, 1]) }
  const { grads } = backprop((p) => nextToken(run(p, { ids }, { training: true, balance: 0.01 }), batch), params)
  return applyUpdates(params, Object.fromEntries(Object.entries(grads).map(([n, g]) => [n, mul(g, -0.5)])))
}

describe.each([
  ['llama3', 'mixtral', 'MixtralForCausalLM'],
  ['mistral', 'mixtral', 'MixtralForCausalLM'],
  ['qwen3', 'qwen3_moe', 'Qwen3MoeForCausalLM'],
])('%s as %s', (name, type, named) => {
  it("gives the dense model's logits, whatever the router says, and is read again as it was", async () => {
    const { network } = await fixture(name)
    const before = logitsOf(network)
    for (const [experts, active] of [
      [4, 2],
      [3, 3],
      [2, 1],
    ] as const) {
      const sparse = upcycle(network, experts, rng(1), { active })
      expect(distance(logitsOf(sparse), before)).toBeLessThan(1e-5)
      const again = await saved(sparse)
      expect(again.config.source).toMatchObject({ model_type: type, architectures: [named] })
      expect(again.config.experts).toMatchObject({
        count: experts,
        active,
        normalized: true,
        hidden: network.config.hidden,
      })
      expect(distance(logitsOf(again), logitsOf(sparse))).toBe(0)
    }
  })

  it('has E times the numbers of the MLPs, and a router of E·D in each layer', async () => {
    const { network } = await fixture(name)
    const { width: D, hidden: F, layers } = network.config
    const count = (n: typeof network): number => countParams(attach(n, [], rng(0), { train: '**' }).params)
    expect(count(upcycle(network, 4, rng(1)))).toBe(count(network) + layers * (3 * 3 * D * F + 4 * D))
  })

  it('trains each expert by itself', async () => {
    const { network } = await fixture(name)
    const sparse = upcycle(network, 4, rng(1))
    const dense = logitsOf(network)
    const params = trained(sparse)
    const of = (e: number): Float32Array => params[`blocks.0.mlp.experts.${e}.up`]!.dataSync<'float32'>()
    const moved = [0, 1, 2, 3].filter(
      (e) => distance(of(e), network.weights['blocks.0.mlp.up']!.dense().dataSync()) > 0,
    )
    expect(moved.length).toBeGreaterThan(1)
    expect(distance(of(moved[0]!), of(moved[1]!))).toBeGreaterThan(1e-4)
    expect(logitsOf(network)).toEqual(dense)
  })
})

describe('upcycle', () => {
  it('takes some layers of Qwen 3, and all of Mixtral', async () => {
    const { network } = await fixture('qwen3')
    const sparse = upcycle(network, 4, rng(1), { layers: [1] })
    expect(sparse.config.experts!.layers).toEqual([false, true])
    expect(sparse.weights['blocks.0.mlp.up']).toBe(network.weights['blocks.0.mlp.up'])
    const again = await saved(sparse)
    expect(distance(logitsOf(again), logitsOf(network))).toBeLessThan(1e-5)
    const { network: llama } = await fixture('llama3')
    expect(() => upcycle(llama, 4, rng(1), { layers: [1] })).toThrow(/1 of 2 layers, and a mixtral.*leave layers out/)
  })

  it('shares packed matrices, and takes no more memory for copies of dense ones until they train', async () => {
    const { network } = await fixture('llama3')
    const packed = await quantize(network, int8(), { at: 'blocks.*.mlp.*' })
    const sparse = upcycle(packed, 4, rng(1))
    expect(sparse.weights['blocks.0.mlp.experts.3.up']).toBe(packed.weights['blocks.0.mlp.up'])
    expect(distance(logitsOf(sparse), logitsOf(packed))).toBeLessThan(1e-5)
    const ids = (n: typeof network): Set<object> => new Set(tensorsOf(n).map((t) => t.dataId as object))
    expect(ids(upcycle(network, 4, rng(1))).size).toBe(ids(network).size + 2)
  })

  it('names sites of experts, and generates with a cache', async () => {
    const { network } = await fixture('llama3')
    const sparse = upcycle(network, 4, rng(1))
    const site = sitesOf(sparse).find((s) => s.name === 'blocks.1.mlp.experts.2.up')
    expect(site).toMatchObject({ in: 48, out: 64, fused: { expert: 2, experts: 4, part: 1, parts: 2 } })
    const of = async (n: typeof network) =>
      (await complete(attach(n, [], rng(0)), [[5, 9, 14]], { maxTokens: 6, ends: [] }))[0]!.ids
    expect(await of(sparse)).toEqual(await of(network))
  })

  it('keeps the dtypes of a file, and what is tied', async () => {
    const { network } = await fixture('llama-sharded-bf16')
    const { config, weights } = await saved(upcycle(network, 2, rng(1)))
    const dtypes = new Map(config.names.map((n) => [n.name, n.dtype]))
    expect(dtypes.get('blocks.{i}.mlp.experts.{e}.down')).toBe('BF16')
    expect(dtypes.get('blocks.{i}.mlp.router')).toBe('BF16')
    expect('head' in weights).toBe(!network.config.tied)
  })

  it.each([
    ['qwen2', 4, {}, /no mixture of experts is laid out as qwen2 is; take one of llama, mistral, qwen3/],
    ['gpt2', 4, {}, /laid out as gpt2 is/],
    ['mixtral', 4, {}, /mixtral has 4 experts already; take a dense model/],
    ['llama-biased', 4, {}, /blocks\.0\.\S+\.bias: a mixtral checkpoint has no place for it/],
    ['llama3', 1, {}, /experts must be a whole number of at least 2, found 1/],
    ['llama3', 2.5, {}, /at least 2, found 2.5/],
    ['llama3', 4, { active: 5 }, /active must be a whole number from 1 to the 4 experts, found 5/],
    ['llama3', 4, { active: 0 }, /found 0/],
    ['qwen3', 4, { layers: [2] }, /layers must be different ones of the 2, from 0, found 2/],
    ['qwen3', 4, { layers: [0, 0] }, /found 0; name each once/],
    ['qwen3', 4, { layers: [] }, /found none/],
  ])('%s, %s experts, %j: refused', async (name, experts, options, message) => {
    const { network } = await fixture(name)
    expect(() => upcycle(network, experts, rng(0), options)).toThrow(message)
  })

  it('refuses a window that the mixture would see otherwise', async () => {
    const { network } = await fixture('qwen3')
    const source = { ...network.config.source, use_sliding_window: true, sliding_window: 4, max_window_layers: 1 }
    const config = { ...network.config, source, window: 4, sliding: [false, true] }
    expect(() => upcycle({ ...network, config }, 4, rng(0))).toThrow(
      /sliding is \[false,true\], and a qwen3_moe .*makes it/,
    )
  })
})
