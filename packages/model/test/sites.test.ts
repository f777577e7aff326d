import type { Network } from '@weftjs/spec'
import { cpu, gather, keep, ones, rng, type Tensor, type Tensor2D, tensor1d } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { namesOf } from '../src/architectures/index.ts'
import { attach, match, sitesOf, type TransformerConfig } from '../src/index.ts'
import { distance, families, fixture } from './fixture.ts'

await cpu()

describe.each(families)('%s', (name) => {
  it('runs through every site with the shapes that it states, in their order', async () => {
    const { network, reference, int } = await fixture(name)
    const c = network.config
    const sites = sitesOf(network)
    const seen: { name: string; in: number; out: number }[] = []
    const spy = {
      name: 'spy',
      init: () => ({ state: {} }),
      around: (next: (x: Tensor) => Tensor, x: Tensor, _: object, { site }: { site: { name: string } }) => {
        seen.push({ name: site.name, in: x.shape.at(-1)!, out: -1 })
        const mine = seen.length - 1
        const y = keep(next(x))
        seen[mine]!.out = y.shape.at(-1)!
        return y
      },
      attend: (next: (x: never) => Tensor, x: never, _: object, { site }: { site: { name: string } }) => {
        seen.push({ name: site.name, in: 0, out: 0 })
        return next(x)
      },
    }
    const tuned = attach(network, [{ adapter: spy as never, at: '**' }], rng(0))
    const inputs = reference.has('input_ids') ? { ids: await int('input_ids') } : { pixels: ones([2, 3, 32, 32]) }
    tuned.forward({}, inputs)
    expect(seen.map((s) => s.name)).toEqual(sites.map((s) => s.name))
    for (const { name, in: input, out } of seen) {
      const site = sites.find((s) => s.name === name)!
      if (site.kind === 'core' || (site.kind === 'embed' && c.input === 'tokens')) continue
      // the model reads ids or pixels
      if (site.kind === 'model') {
        expect(out).toBe(site.out)
        continue
      }
      expect({ name, in: input, out }).toEqual({ name, in: site.in, out: site.out })
    }
  })

  it('names every module as the checkpoint does', async () => {
    const { network } = await fixture(name)
    const sites = sitesOf(network)
    const files = new Map([...namesOf(network.config)].map((n) => [n.name, n]))
    for (const site of sites)
      if (site.weight && files.has(site.name)) {
        expect(`${site.module}.weight`).toBe(files.get(site.name)!.hf)
        expect(site.axes).toHaveLength(2)
      }
    expect(new Set(sites.map((s) => s.name)).size).toBe(sites.length)
    // every tensor of the network is a site's matrix, a norm's, or a table
    const known = new Set(sites.map((s) => s.name))
    const loose = [...Object.keys(network.weights), ...Object.keys(network.vectors)].filter(
      (n) => !known.has(n.replace(/\.bias$/, '')),
    )
    expect(loose.filter((n) => !['positions', 'types', 'cls'].includes(n))).toEqual([])
  })
})

it('keeps the module of a tied head, and says what GPT-2 stores transposed', async () => {
  const { network } = await fixture('gpt2')
  const sites = sitesOf(network)
  const of = (name: string): (typeof sites)[number] => sites.find((s) => s.name === name)!
  expect(of('head').module).toBe('lm_head')
  expect(of('blocks.1.attn.qkv')).toMatchObject({
    module: 'transformer.h.1.attn.c_attn',
    transposed: true,
    axes: ['qkv.1', 'residual'],
    in: 32,
    out: 96,
  })
  expect(of('embed').transposed).toBeUndefined()
  expect(of('embed').axes).toEqual(['vocabulary', 'residual'])
})

it('gives one size to each axis, over all matrices that share it', async () => {
  for (const name of families) {
    const { network } = await fixture(name)
    const grouped = network.config.heads !== network.config.kvHeads
    const sizes = new Map<string, Set<number>>()
    for (const { weight, axes } of sitesOf(network))
      axes?.forEach((axis, i) => {
        sizes.set(axis, (sizes.get(axis) ?? new Set()).add(weight!.shape[i]!))
      })
    for (const [axis, found] of sizes) {
      const heads = /^(qk|vo)\./.test(axis)
      expect(found.size, `${name} ${axis}`).toBe(heads && grouped ? 2 : 1)
    }
  }
})

it('finds sites by glob and shows the nearest where there is none', async () => {
  const { network } = await fixture('llama')
  const sites = sitesOf(network)
  expect(match(sites, 'blocks.*.attn.{q,v}').map((s) => s.name)).toEqual([
    'blocks.0.attn.q',
    'blocks.0.attn.v',
    'blocks.1.attn.q',
    'blocks.1.attn.v',
  ])
  expect(() => match(sites, 'blocks.*.attn.query')).toThrow(/nearest are .*attn/)
})

describe('axes', () => {
  const shuffled = (n: number): number[] => {
    const order = Array.from({ length: n }, (_, i) => i)
    const noise = rng(3).numbers(n)
    return order.sort((a, b) => noise[a]! - noise[b]!)
  }
  /** the network with the units of one axis in another order, by nothing but its sites */
  const permuted = (network: Network<TransformerConfig>, axis: string, order: number[]): Network<TransformerConfig> => {
    const index = tensor1d(order, 'int32')
    const along = (x: Tensor, dim: number): Tensor => gather(x, index, dim)
    const weights = { ...network.weights }
    const vectors: Record<string, Tensor> = { ...network.vectors }
    for (const { name, kind, axes } of sitesOf(network)) {
      if (kind === 'norm' && axis === 'residual' && vectors[name]!.size === order.length) {
        vectors[name] = along(vectors[name]!, 0)
        if (vectors[`${name}.bias`]) vectors[`${name}.bias`] = along(vectors[`${name}.bias`]!, 0)
      }
      if (!axes || !weights[name]) continue
      axes.forEach((a, dim) => {
        if (a === axis) weights[name] = dense(along(weights[name]!.dense(), dim) as Tensor2D)
      })
      if (axes[0] === axis && vectors[`${name}.bias`]) vectors[`${name}.bias`] = along(vectors[`${name}.bias`]!, 0)
    }
    if (axis === 'residual')
      for (const n of ['positions', 'types', 'cls'])
        if (vectors[n]) vectors[n] = along(vectors[n]!, vectors[n]!.rank - 1)
    return { ...network, weights, vectors }
  }
  it.each(['llama3', 'llama-biased', 'gemma3_text', 'gpt2', 'bert', 'roberta', 'vit'])(
    '%s: hidden units change places and the model does not',
    async (name) => {
      const { network, reference, int } = await fixture(name)
      const inputs = reference.has('input_ids')
        ? { ids: await int('input_ids') }
        : { pixels: rng(1).normal([2, 3, 32, 32]) }
      const logits = (n: Network<TransformerConfig>): ArrayLike<number> =>
        attach(n, [], rng(0)).forward({}, inputs).logits.dataSync()
      const before = logits(network)
      const { width, hidden } = network.config
      for (const [axis, n] of [
        ['residual', width],
        ['mlp.1', hidden],
      ] as const) {
        expect(distance(logits(permuted(network, axis, shuffled(n))), before), axis).toBeLessThan(1e-4)
        // and half of it would not do: the test can fail
        const half = permuted({ ...network, vectors: {} }, axis, shuffled(n))
        expect(
          distance(
            logits({
              ...half,
              vectors: network.vectors,
              weights: { ...half.weights, 'blocks.1.mlp.down': network.weights['blocks.1.mlp.down']! },
            }),
            before,
          ),
        ).toBeGreaterThan(1e-2)
      }
    },
  )
})
