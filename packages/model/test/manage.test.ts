import type { Adapter, Tensor } from '@weftjs/spec'
import { add, cpu, mapParams, memory, mul, rng, tensor } from '@weftjs/tensor'
import { dense, lowRank, packed, sum } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import {
  addAdapters,
  attach,
  countsOf,
  deleteAdapters,
  foldChecked,
  initNetwork,
  renameAdapters,
  statusOf,
  type Tuned,
} from '../src/index.ts'

await cpu()
const source = {
  ...{ model_type: 'llama', vocab_size: 13, hidden_size: 8, num_hidden_layers: 2, num_attention_heads: 2 },
  ...{ intermediate_size: 12, max_position_embeddings: 32, tie_word_embeddings: true, attention_bias: true },
}
const network = initNetwork(source, rng(3))
const ids = tensor([1, 2, 3, 4], [1, 4], 'int32')
const bits = (t: Tensor): number[] => [...new Uint32Array(Float32Array.from(t.dataSync()).buffer)]
const logits = (tuned: Tuned, params = tuned.params, adapters?: string[]): number[] =>
  bits(tuned.forward(params, { ids }, adapters && { adapters }).logits)

const low = (rank = 2): Adapter<any> => ({
  name: 'low',
  init: (site, { rng }) => {
    const [out, input] = site.weight!.shape
    return { state: { b: rng.normal([out, rank], 0.3), a: rng.normal([rank, input], 0.3) } }
  },
  weight: (base, { a, b }) => sum(base, lowRank(b, a)),
})
/** a factor common to all sites, which trains, and a fixed one of each */
const common: Adapter<any> = {
  name: 'common',
  init: (site, { rng, shared }) => {
    shared('gain', (r) => r.normal([1]), { trains: true })
    shared('fixed', (r) => r.normal([1]))
    return { state: { t: rng.normal([site.out]), u: rng.normal([site.out]) }, trains: ['t'] }
  },
  around: (next, x, { t, u }, { shared }) => add(next(x), mul(add(t!, u!), mul(shared['gain']!, shared['fixed']!))),
}
const other: Adapter<any> = {
  ...low(),
  name: 'other',
  init: (site, c) => ({ ...low().init(site, c)!, base: dense(mul(site.weight!.dense(), 0.5) as never) }),
}

describe('adding, deleting, renaming', () => {
  const first = attach(network, [{ adapter: low(), at: '**.{q,v}' }], rng(1), { train: 'norm' })
  const params = mapParams(first.params, (p) => add(p, 0.1))

  it('adds to what has been trained; the old one stays as it was, and tensors are shared', () => {
    const before = logits(first, params)
    const both = addAdapters(
      first,
      [
        { adapter: common, at: '**.mlp' },
        { adapter: low(3), at: '**.{v,up}', name: 'more' },
      ],
      rng(2),
      { params },
    )
    for (const [n, p] of Object.entries(params)) expect(both.params[n]).toBe(p)
    expect(logits(both, both.params, ['low', 'whole'])).toEqual(before)
    expect(logits(both)).not.toEqual(before)
    expect(logits(first, params)).toEqual(before)
    const at = { adapter: common, at: '**.mlp' }
    const more = { adapter: low(3), at: '**.{v,up}', name: 'more' }
    expect(logits(both, both.params, ['common', 'more'])).toEqual(logits(attach(network, [at, more], rng(2))))
    // and away again
    const less = deleteAdapters(both, ['common', 'more'])
    expect(Object.keys(less.params)).toEqual(Object.keys(first.params))
    expect(less.constants).toEqual({})
    expect(logits(less)).toEqual(before)
    expect(logits(deleteAdapters(both, ['low'], { ...both.params, norm: network.vectors['norm']! }))).toEqual(
      logits(attach(network, [at, more], rng(2))),
    )
  })

  it('renames, tensors common to sites among them', () => {
    const tuned = attach(
      network,
      [
        { adapter: common, at: '**.mlp' },
        { adapter: low(), at: '**.q' },
      ],
      rng(2),
    )
    const renamed = renameAdapters(tuned, { common: 'new', low: 'common' })
    expect(Object.keys(renamed.params).sort()).toEqual([
      'blocks.0.attn.q.common.a',
      'blocks.0.attn.q.common.b',
      'blocks.0.mlp.new.t',
      'blocks.1.attn.q.common.a',
      'blocks.1.attn.q.common.b',
      'blocks.1.mlp.new.t',
      'new.shared.gain',
    ])
    expect(Object.keys(renamed.constants)).toEqual(['new.shared.fixed', 'blocks.0.mlp.new.u', 'blocks.1.mlp.new.u'])
    expect(logits(renamed)).toEqual(logits(tuned))
    expect(logits(renamed, renamed.params, ['new'])).toEqual(logits(tuned, tuned.params, ['common']))
    expect(renamed.params['new.shared.gain']).toBe(tuned.params['common.shared.gain'])
  })

  it('says what cannot be, and leaves nothing behind', () => {
    const before = memory().numTensors
    expect(() => addAdapters(first, [{ adapter: low(), at: '**.{k,v}' }], rng(1))).toThrow(
      "blocks.0.attn.v: there is an adapter 'low' already; give the new one a 'name' of its own, or delete the old",
    )
    const one = attach(network, [{ adapter: other, at: '**.q' }], rng(1))
    const held = memory().numTensors
    expect(() => addAdapters(one, [{ adapter: other, at: '**.q', name: 'second' }], rng(1))).toThrow(
      "blocks.0.attn.q: 'other' and 'second' both put a weight of their own",
    )
    expect(memory().numTensors).toBe(held)
    const common1 = attach(network, [{ adapter: common, at: 'blocks.0.mlp' }], rng(1))
    expect(() => addAdapters(common1, [{ adapter: common, at: 'blocks.1.mlp' }], rng(1))).toThrow(
      'common.shared.gain is there already',
    )
    const halves = ['blocks.0.mlp', 'blocks.1.mlp'].map((at) => ({ adapter: common, at }))
    expect(() => attach(network, halves, rng(1))).toThrow(
      "blocks.1.mlp: two adapters named 'common' have a 'gain' of their own for all their sites; give one of them a 'name'",
    )
    expect(() => deleteAdapters(first, ['lo'])).toThrow("there is no adapter 'lo' here; there are low")
    expect(() => renameAdapters(first, { x: 'y' })).toThrow("there is no adapter 'x' here")
    expect(() => renameAdapters(first, { low: 'whole' })).toThrow("'whole' stands for")
    const two = attach(
      network,
      [
        { adapter: low(), at: '**.q' },
        { adapter: low(), at: '**.q', name: 'b' },
      ],
      rng(1),
    )
    expect(() => renameAdapters(two, { low: 'b' })).toThrow("blocks.0.attn.q: two adapters would be named 'b' here")
    expect(memory().numTensors - before).toBeGreaterThan(0)
  })
})

describe('status', () => {
  it('tells of every site, and counts what trains', () => {
    const tuned = attach(
      network,
      [
        { adapter: low(3), at: '**.q' },
        { adapter: common, at: 'blocks.1.mlp' },
        { adapter: other, at: '**.q' },
      ],
      rng(2),
      { train: ['**.q.bias', 'embed'] },
    )
    const status = statusOf(tuned)
    expect(status.map((s) => s.site)).toEqual(tuned.sites.map((s) => s.name))
    const at = (name: string) => status.find((s) => s.site === name)
    expect(at('blocks.0.attn.q')).toEqual({
      ...{ site: 'blocks.0.attn.q', kind: 'linear', shape: [8, 8], format: 'dense', whole: ['blocks.0.attn.q.bias'] },
      adapters: [
        { name: 'low', method: 'low', rank: 3, tensors: { a: [3, 8], b: [8, 3] }, trained: 48, frozen: 0 },
        {
          name: 'other',
          method: 'other',
          rank: 2,
          tensors: { a: [2, 8], b: [8, 2] },
          trained: 32,
          frozen: 0,
          base: 'dense',
        },
      ],
    })
    expect(at('blocks.1.mlp')).toEqual({
      ...{ site: 'blocks.1.mlp', kind: 'mlp', whole: [] },
      adapters: [{ name: 'common', method: 'common', tensors: { t: [8], u: [8] }, trained: 8, frozen: 8 }],
    })
    expect(at('blocks.0.mlp')!.adapters).toEqual([])
    expect(at('embed')!.whole).toEqual(['embed'])
    // embed 13·8, q biases 2·8, factors 2·(48 + 32), t 8, gain 1; fixed: u 8, fixed 1
    const trained = 104 + 16 + 160 + 8 + 1
    // a block: 4·8·8 and biases of q, k, v, o; 3·8·12; two norms
    const own = 104 + 2 * (256 + 32 + 288 + 16) + 8
    expect(countsOf(tuned)).toEqual({ trained, frozen: 9, network: own, share: trained / (own + 169 + 9) })
  })
})

describe('a fold that is looked at', () => {
  const bad = (tuned: Tuned, name: string, value = Number.NaN) => {
    const t = tuned.params[name]!
    return {
      ...tuned.params,
      [name]: tensor(
        Float32Array.from(t.dataSync(), (v, i) => (i === 3 ? value : v)),
        t.shape as [number],
      ),
    }
  }
  const half = { name: 'half', encode: (w: Tensor) => ({ q: mul(w, 1) }), decode: ({ q }: { q: Tensor }) => q } as never
  const few = { ...network, weights: mapParams(network.weights as never, (w: any) => packed(half, w.dense())) as never }
  const tuned = attach(
    few,
    [
      { adapter: low(), at: '**.{q,v}' },
      { adapter: low(), at: '**.v', name: 'second' },
    ],
    rng(1),
    { train: '**.bias' },
  )

  it('is the fold, in the format of each base', async () => {
    const [a, b] = [await foldChecked(tuned), tuned.fold(tuned.params)]
    for (const n of Object.keys(a.weights)) {
      expect(a.weights[n]!.format).toBe('half')
      expect(bits(a.weights[n]!.dense())).toEqual(bits(b.weights[n]!.dense()))
    }
    expect(Object.keys(b.weights)).toEqual(Object.keys(a.weights))
    expect(logits(attach(a, [], rng(0)), {})).toEqual(logits(attach(b, [], rng(0)), {}))
  })

  it.each([
    [
      'blocks.1.attn.v.second.a',
      Number.NaN,
      "blocks.1.attn.v: holds numbers that are not finite with 'second' folded in; training has diverged",
    ],
    [
      'blocks.0.attn.v.low.b',
      Number.POSITIVE_INFINITY,
      "blocks.0.attn.v: holds numbers that are not finite with 'low' folded in",
    ],
    ['blocks.0.attn.q.bias', Number.NaN, 'blocks.0.attn.q.bias: holds numbers that are not finite as it was trained'],
  ])('names the site and the adapter: %s', async (name, value, message) => {
    const params = bad(tuned, name, value)
    const before = memory().numTensors
    await expect(foldChecked(tuned, params)).rejects.toThrow(message)
    expect(memory().numTensors).toBe(before)
    // where it does not act, nothing is wrong
    const rest = ['low', 'second', 'whole'].filter(
      (n) => !name.includes(n) && !(n === 'whole' && name.endsWith('bias')),
    )
    await expect(foldChecked(tuned, params, { adapters: rest })).resolves.toBeDefined()
  })
})
