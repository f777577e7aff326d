import { attach, match, sitesOf, type Tuned, tunedOf } from '@weftjs/model'
import type { Adapter, Params, Site, Tensor } from '@weftjs/spec'
import {
  add,
  backprop,
  countParams,
  cpu,
  linear,
  mapParams,
  rng,
  sampleOf,
  sub,
  sum,
  tensor,
  tensor1d,
} from '@weftjs/tensor'
import { tinyLlama, toyCodec } from '@weftjs/testkit'
import { packed } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { apet, trainable as apetCount } from '../src/apet.ts'
import { dsee, dseePruned, dseePrunedHeads } from '../src/dsee.ts'
import { fromPeft, loadPeft, readPeftConfig } from '../src/index.ts'
import { lora } from '../src/lora.ts'
import { ltSft, trainable as ltSftCount, movedMost } from '../src/lt-sft.ts'
import { movedMostOfEach, pivotal } from '../src/pivotal.ts'
import { sara, trainable as saraMost } from '../src/sara.ts'
import { nuclearNorm } from '../src/shared/nuclear.ts'
import { flatOf, placesOf } from '../src/shared/sparse.ts'
import { distance, model, saved } from './fixture.ts'

await cpu()
const network = tinyLlama(rng(0))
const LINEARS = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const logits = (tuned: Tuned, params: Params = tuned.params): Tensor => tuned.forward(params, { ids }).logits
const on = (adapter: Adapter<any>, at: string | string[] = LINEARS, base = network): Tuned =>
  attach(base, [{ adapter, at }], rng(1))
const moved = (tuned: Tuned, by = 0.3): Params =>
  mapParams(tuned.params, (p, n) => add(p, rng(2).fork(n).normal(p.shape, by)))
const denseOf = (tuned: Tuned, params: Params, site: string): Float32Array =>
  tuned.fold(params).weights[site]!.dense().dataSync() as Float32Array
const w0 = (site: string): Float32Array => network.weights[site]!.dense().dataSync() as Float32Array
const changed = (a: ArrayLike<number>, b: ArrayLike<number>): number[] =>
  Array.from(a, (v, i) => (v === b[i] ? -1 : i)).filter((i) => i >= 0)
const flat = (tuned: Tuned, prefix: string, input: number): number[] =>
  Array.from(flatOf(tuned.constants[`${prefix}.places`]!, input))

describe('a sparse update', () => {
  it('changes its own places by its own values, and leaves the others bit by bit', () => {
    const tuned = on(apet({ share: 0.1 }))
    const params = moved(tuned)
    for (const { site, prefix } of tuned.bound) {
      const [w, after] = [w0(site.name), denseOf(tuned, params, site.name)]
      const at = flat(tuned, prefix, site.in)
      expect(changed(w, after)).toEqual(at)
      const values = params[`${prefix}.values`]!.dataSync()
      at.forEach((i, j) => {
        expect(after[i]).toBe(Math.fround(w[i]! + values[j]!))
      })
    }
  })

  it('has the gradient of the whole matrix at its places', () => {
    const tuned = on(apet({ share: 0.2 }))
    const whole = attach(network, [], rng(0), { train: 'blocks.*.{attn,mlp}.*' })
    const loss = (t: Tuned) => (p: Params) => sum(linear(logits(t, p), rng(3).normal([1, 24]))) as never
    const [a, b] = [backprop(loss(tuned), tuned.params).grads, backprop(loss(whole), whole.params).grads]
    for (const { site, prefix } of tuned.bound) {
      const g = b[site.name]!.dataSync()
      const found = a[`${prefix}.values`]!.dataSync()
      const largest = Math.max(...Array.from(g, Math.abs))
      flat(tuned, prefix, site.in).forEach((i, j) => {
        expect(Math.abs(found[j]! - g[i]!) / largest).toBeLessThan(1e-4)
      })
    }
  })

  it('keeps places from flat numbers and back', () => {
    expect([...placesOf([0, 5, 11], 4).dataSync()]).toEqual([0, 1, 2, 0, 1, 3])
    expect([...flatOf(placesOf([0, 5, 11], 4), 4)]).toEqual([0, 5, 11])
  })
})

describe('apet', () => {
  it('draws exactly N of all numbers, the same for a seed wherever it is attached', () => {
    const tuned = on(apet({ count: 333 }))
    expect(countParams(tuned.params)).toBe(333)
    const again = attach(network, [{ adapter: apet({ count: 333 }), at: LINEARS }], rng(77))
    expect(again.constants['blocks.0.mlp.up.apet.places']!.dataSync()).toEqual(
      tuned.constants['blocks.0.mlp.up.apet.places']!.dataSync(),
    )
    const other = on(apet({ count: 333, seed: 1 }))
    expect(Object.keys(other.params)).not.toHaveLength(0)
    expect(
      distance(
        other.constants['blocks.0.mlp.up.apet.places']!.dataSync(),
        tuned.constants['blocks.0.mlp.up.apet.places']!.dataSync(),
      ),
    ).toBeGreaterThan(0)
  })

  it('of all numbers is full tuning', () => {
    const tuned = on(apet({ share: 1 }))
    const whole = attach(network, [], rng(0), { train: LINEARS })
    expect(countParams(tuned.params)).toBe(countParams(whole.params))
  })

  it('leaves out a site where nothing was drawn, and says what cannot be', () => {
    const tuned = on(apet({ count: 3 }))
    expect(tuned.bound.length).toBeLessThanOrEqual(3)
    const sites = match(sitesOf(network), LINEARS)
    for (const site of sites) {
      const own = tuned.bound.find((b) => b.site.name === site.name)
      const found = own ? tuned.params[`${own.prefix}.values`]!.size : 0
      expect(apetCount(site, { count: 3 }, sites), site.name).toBe(found)
    }
    expect(() => on(apet({ count: 1e6 }))).toThrow(/apet: count 1000000 exceeds the \d+ numbers at its sites/)
    expect(() => on(apet(), 'blocks.*.attn')).toThrow('blocks.0.attn (attn) has no weight')
    expect(() => on(apet(), ['blocks.0.attn.q', 'blocks.1.mlp'])).toThrow('blocks.1.mlp (mlp) has no weight')
    expect(() => apet({ share: 0 })).toThrow('apet: share must be in (0, 1], found 0')
    expect(() => apet({ count: 1.5 })).toThrow('count must be a whole number of at least 1, found 1.5')
  })
})

describe('lt-sft', () => {
  const start = (tuned: Tuned): Params => tuned.params
  const trained = attach(network, [], rng(0), { train: LINEARS })
  const after = mapParams(trained.params, (p, n) =>
    add(
      p,
      rng(5)
        .fork(n)
        .normal(p.shape, n.includes('.1.') ? 2 : 1),
    ),
  )

  it('takes the K numbers that moved most, of all matrices together', () => {
    const by = movedMost(start(trained), after, 100)
    const all = Object.keys(after).flatMap((n) => {
      const d = sub(after[n]!, trained.params[n]!).dataSync()
      return Array.from(d, (v, i) => ({ n, i, v: Math.abs(v) }))
    })
    all.sort((a, b) => b.v - a.v)
    const want = all.slice(0, 100).map(({ n, i }) => `${n} ${i}`)
    const found = Object.entries(by).flatMap(([n, m]) => Array.from(m.flat, (i) => `${n} ${i}`))
    expect(found.sort()).toEqual(want.sort())
    // twice as much movement in the second block
    expect(found.filter((f) => f.includes('blocks.1.')).length).toBeGreaterThan(80)
    const tuned = on(ltSft({}, by))
    expect(countParams(tuned.params)).toBe(100)
    expect(distance(logits(tuned).dataSync(), logits(attach(network, [], rng(0))).dataSync())).toBe(0) // rewound
    for (const { site, prefix } of tuned.bound) {
      expect(flat(tuned, prefix, site.in)).toEqual(Array.from(by[site.name]!.flat))
      expect(ltSftCount(site, ltSft({}, by).options)).toBe(by[site.name]!.flat.length)
    }
  })

  it('deltas of a task and a language add up, in any order', () => {
    const [task, language] = [1, 2].map((seed) =>
      ltSft(
        {},
        movedMost(
          trained.params,
          mapParams(after, (p, n) => add(p, rng(seed).fork(n).normal(p.shape, 3))),
          60,
        ),
      ),
    )
    const attachments = [
      { adapter: task!, at: LINEARS, name: 'task' },
      { adapter: language!, at: LINEARS, name: 'language' },
    ]
    const both = attach(network, attachments, rng(0))
    const swapped = attach(network, attachments.toReversed(), rng(0))
    const params = moved(both)
    expect(distance(logits(both, params).dataSync(), logits(swapped, params).dataSync())).toBeLessThan(1e-5)
    const [w, a, b, ab] = [[], ['task'], ['language'], ['task', 'language']].map((adapters) =>
      both.fold(params, { adapters }).weights['blocks.1.mlp.up']!.dense().dataSync(),
    )
    ab!.forEach((v: number, i: number) => {
      expect(v - w![i]!).toBeCloseTo(a![i]! - w![i]! + (b![i]! - w![i]!), 5)
    })
  })

  it('adds λ·Σ|φ|/N to the loss while it trains', () => {
    const tuned = on(ltSft({ share: 0.1, l1: 2 }))
    const params = mapParams(tuned.params, (p) => add(p, -0.5))
    const { penalty } = tuned.run(params, { ids }, { training: true })
    const total = tuned.bound.reduce((n, { site }) => n + site.in * site.out, 0)
    expect(penalty!.dataSync()[0]).toBeCloseTo((2 * 0.5 * countParams(params)) / total, 6)
    expect(tuned.run(params, { ids }).penalty).toBeUndefined()
  })

  it('says what cannot be', () => {
    expect(() => movedMost(trained.params, after, 1e6)).toThrow(/count 1000000 of \d+ numbers/)
    expect(() => movedMost({}, after, 1)).toThrow('after training and nothing before')
    const far = { 'blocks.0.attn.q': { flat: Int32Array.from([999]), by: new Float32Array(1) } }
    expect(() => on(ltSft({}, far))).toThrow('blocks.0.attn.q: place 999 of 256; what moved is of another network')
  })

  it('is saved and loaded with its places, under the counts that the data gave', async () => {
    const base = await model('llama3')
    const site = sitesOf(base).find((s) => s.name === 'blocks.0.mlp.up')!
    const by = { [site.name]: { flat: sampleOf(rng(1), 40, 7), by: new Float32Array(7) } }
    const tuned = attach(base, [{ adapter: ltSft({}, by), at: site.name }], rng(0))
    const params = moved(tuned)
    const folder = await saved(tuned, params)
    const config = await readPeftConfig(folder)
    const make = (_: string, options: object): Adapter<any> => ltSft(options)
    const begun = fromPeft(config, base, sitesOf(base), { make })
    const fresh = attach(begun.network, begun.attachments, rng(9), begun.options)
    const read = await loadPeft(folder, fresh, { make })
    const again = tunedOf({ ...fresh, constants: { ...fresh.constants, ...read.constants } })
    expect([...again.constants['blocks.0.mlp.up.lt-sft.places']!.dataSync()]).toEqual([
      ...tuned.constants['blocks.0.mlp.up.lt-sft.places']!.dataSync(),
    ])
    expect(distance(logits(again, read.params).dataSync(), logits(tuned, params).dataSync())).toBe(0)
  })
})

describe('pivotal', () => {
  const train = 'blocks.*.attn.{q,k,v,o}'
  const whole = attach(network, [], rng(0), { train })
  const after = mapParams(whole.params, (p, n) => add(p, rng(5).fork(n).normal(p.shape)))

  it('goes on from where the pivotal numbers are, and puts the others back', () => {
    const by = movedMostOfEach(whole.params, after, 0.1)
    const tuned = on(pivotal({ share: 0.1 }, by), train)
    for (const { site } of tuned.bound) {
      const [w, now, then] = [w0(site.name), denseOf(tuned, tuned.params, site.name), after[site.name]!.dataSync()]
      const places = changed(w, now)
      expect(places).toHaveLength(Math.ceil(0.1 * w.length))
      for (const i of places) expect(now[i]).toBeCloseTo(then[i]!, 5)
      const least = Math.min(...places.map((i) => Math.abs(then[i]! - w[i]!)))
      const rest = Array.from(w, (v, i) => (places.includes(i) ? 0 : Math.abs(then[i]! - v)))
      expect(Math.max(...rest)).toBeLessThanOrEqual(least)
    }
  })

  it('of the whole share is full tuning from there', () => {
    const tuned = on(pivotal({ share: 1 }, movedMostOfEach(whole.params, after, 1)), train)
    expect(distance(logits(tuned).dataSync(), logits(whole, after).dataSync())).toBeLessThan(2e-5)
  })

  it('says what cannot be', () => {
    expect(() => pivotal({ share: 1.5 })).toThrow('pivotal: share must be in (0, 1], found 1.5')
    expect(() => on(pivotal({ share: 0.2 }, movedMostOfEach(whole.params, after, 0.1)), train)).toThrow(
      'blocks.0.attn.q: 26 numbers moved, and a share of 0.2 is 52',
    )
    expect(() => on(pivotal({ share: 0.1 }, {}), train)).toThrow('no numbers moved')
  })
})

describe('dsee', () => {
  it('without S₂ is LoRA with that scale', () => {
    const tuned = on(dsee({ rank: 2, alpha: 6, entries: 3 }))
    const values = moved(tuned)
    const params = mapParams(values, (p, n) => (n.endsWith('.values') ? sub(p, p) : p))
    const plain = on(lora({ rank: 2, alpha: 6 }))
    const same = Object.fromEntries(Object.keys(plain.params).map((n) => [n, params[n.replace('.lora.', '.dsee.')]!]))
    expect(distance(logits(tuned, params).dataSync(), logits(plain, same).dataSync())).toBeLessThan(1e-5)
    // S₂ is scaled like B·A
    const site = tuned.bound[0]!
    const only = mapParams(params, (p, n) =>
      n === `${site.prefix}.values` ? add(p, 1) : n.endsWith('.b') ? sub(p, p) : p,
    )
    const [w, now] = [w0(site.site.name), denseOf(tuned, only, site.site.name)]
    for (const i of changed(w, now)) expect(now[i]! - w[i]!).toBeCloseTo(3, 5)
    expect(changed(w, now)).toHaveLength(3)
  })

  it('puts S₂ at the largest of W, or of what is left of it beside its best factors', () => {
    const tuned = on(dsee({ rank: 1, entries: 4, support: 'magnitude' }), 'blocks.0.attn.q')
    const w = Array.from(w0('blocks.0.attn.q'), Math.abs)
    const least = [...w].sort((a, b) => b - a)[3]!
    expect(flat(tuned, 'blocks.0.attn.q.dsee', 16)).toEqual(w.flatMap((v, i) => (v >= least ? [i] : [])))
    // a matrix of rank 1 with two numbers on top: those are what is left
    const [u, v] = [rng(1).normal([16]).dataSync(), rng(2).normal([16]).dataSync()]
    const odd = Array.from({ length: 256 }, (_, i) => u[i >> 4]! * v[i % 16]! * 0.3 + (i === 37 || i === 200 ? 3 : 0))
    const site: Site = {
      ...tuned.bound[0]!.site,
      weight: network.weights['blocks.0.attn.q']!.like(tensor(odd, [16, 16]) as never),
    }
    const { state } = dsee({ rank: 1, entries: 2 }).init(site, { rng: rng(0), sites: [site] } as never)!
    // the factors bend towards the outliers, yet these stand out
    expect([...flatOf(state.places, 16)]).toContain(37)
  })

  it('says what cannot be', () => {
    expect(() => on(dsee({ rank: 2, entries: 1000 }))).toThrow('1000 entries, and the matrix has 256; lower "entries"')
    expect(() => on(dsee({ rank: 9 }))).toThrow('rank 9 exceeds min(8, 16)')
  })
})

describe('pruning after dsee', () => {
  const at = 'blocks.*.attn.{q,v}'
  const tuned = on(dsee({ rank: 2, entries: 5 }), at)
  const params = moved(tuned)
  const folded = tuned.fold(params)
  const updates = Object.fromEntries(
    tuned.bound.map(({ site }) => [
      site.name,
      sub(folded.weights[site.name]!.dense(), network.weights[site.name]!.dense()) as never,
    ]),
  )
  const sites = sitesOf(network)
  const zeros = (net: typeof network, names: string[]): number =>
    names.reduce((n, name) => n + Array.from(net.weights[name]!.dense().dataSync()).filter((v) => v === 0).length, 0)

  it('makes that share zero, of the adapted matrices and of the others, and the rest stays bit by bit', () => {
    for (const by of ['update', 'whole'] as const) {
      const net = dseePruned(network, sites, updates, { ratio: 0.25, by })
      const linears = sites.filter((s) => s.kind === 'linear').map((s) => s.name)
      const [ours, others] = [linears.filter((n) => updates[n]), linears.filter((n) => !updates[n])]
      const size = (names: string[]): number => names.reduce((n, name) => n + w0(name).length, 0)
      expect(zeros(net, ours)).toBe(size(ours) / 4)
      expect(zeros(net, others)).toBe(size(others) / 4)
      // the smallest of those beside the adapter went
      const gone = others.flatMap((n) =>
        Array.from(net.weights[n]!.dense().dataSync(), (v, i) => (v ? 0 : Math.abs(w0(n)[i]!))),
      )
      const kept = others.flatMap((n) => Array.from(net.weights[n]!.dense().dataSync(), Math.abs).filter((v) => v > 0))
      expect(Math.max(...gone)).toBeLessThanOrEqual(Math.min(...kept))
      for (const n of ours)
        net.weights[n]!.dense()
          .dataSync()
          .forEach((v: number, i: number) => {
            if (v) expect(v).toBe(w0(n)[i]!)
          })
      expect(net.weights['head']).toBe(network.weights['head'])
    }
    expect(() => dseePruned(network, sites, updates, { ratio: 1 })).toThrow('dsee: ratio must be in [0, 1), found 1')
  })

  it('takes the heads that were updated least, and their part of the output with them', () => {
    const strong = mapParams(updates, (u, n) =>
      n.endsWith('.q')
        ? tensor(
            Array.from(u.dataSync(), (_, i) => [5, 1, 7, 3][Math.floor(i / 64)]!),
            [16, 16],
          )
        : sub(u, u),
    )
    const net = dseePrunedHeads(network, sites, strong as never, 2)
    const o = Array.from(net.weights['blocks.0.attn.o']!.dense().dataSync())
    const q = Array.from(net.weights['blocks.0.attn.q']!.dense().dataSync())
    // heads 1 and 3 of four numbers each
    for (const [i, v] of o.entries()) expect(v === 0).toBe([1, 3].includes(Math.floor((i % 16) / 4)))
    for (const [i, v] of q.entries()) expect(v === 0).toBe([1, 3].includes(Math.floor(i / 64)))
    expect(() => dseePrunedHeads(network, sites, strong as never, 4)).toThrow('4 heads to prune, and there are 4')
  })
})

describe('sara', () => {
  it('trains what is below θ from its own values', () => {
    const tuned = on(sara({ threshold: 0.1 }))
    for (const { site, prefix } of tuned.bound) {
      const w = w0(site.name)
      const at = Array.from(w, (v, i) => (Math.abs(v) < 0.1 ? i : -1)).filter((i) => i >= 0)
      expect(flat(tuned, prefix, site.in)).toEqual(at)
      expect([...tuned.params[`${prefix}.values`]!.dataSync()]).toEqual(at.map((i) => w[i]!))
      expect([...denseOf(tuned, tuned.params, site.name)]).toEqual([...w])
    }
    // with θ = ∞ everything trains
    const most = tuned.bound.reduce((n, { site }) => n + saraMost(site), 0)
    expect(countParams(on(sara({ threshold: 1e9 })).params)).toBe(most)
  })

  it('a share of all numbers is below its θ', () => {
    const tuned = on(sara({ share: 0.2 }))
    const all = sitesOf(network)
      .filter((s) => s.kind === 'linear')
      .reduce((n, s) => n + s.in * s.out, 0)
    expect(countParams(tuned.params) / all).toBeCloseTo(0.2, 3)
  })

  it('has the nuclear norm of what trains, and its gradient', () => {
    const places = placesOf([0, 3, 5, 7, 10], 4)
    const v = rng(4).normal([5])
    const norm = (t: Tensor): number => nuclearNorm(t, places, [3, 4]).dataSync()[0]!
    const { grads } = backprop((p) => nuclearNorm(p['v']!, places, [3, 4]) as never, { v })
    const values = v.dataSync()
    grads['v']!.dataSync().forEach((g: number, i: number) => {
      const probe = (h: number): number =>
        norm(tensor1d(values.map((x: number, j: number) => (i === j ? x + h : x)) as never))
      expect(g).toBeCloseTo((probe(1e-2) - probe(-1e-2)) / 2e-2, 2)
    })
    // of a diagonal it is the sum of sizes
    expect(nuclearNorm(tensor1d([3, -4]), placesOf([0, 5], 4), [3, 4]).dataSync()[0]).toBeCloseTo(7, 5)
  })

  it('adds it at one matrix a step on average, while training', () => {
    const tuned = on(sara({ threshold: 1e9, above: 4, lambda: 1 }))
    const times = Array.from(
      { length: 60 },
      (_, i) => tuned.run(tuned.params, { ids }, { training: true, rng: rng(i) }).penalty,
    )
    const norms = times.map((p) => (p ? p.dataSync()[0]! : 0))
    expect(norms.filter((n) => n > 0).length).toBeGreaterThan(20)
    expect(norms.filter((n) => n === 0).length).toBeGreaterThan(5)
    expect(tuned.run(tuned.params, { ids }).penalty).toBeUndefined()
  })

  it('settles what has grown, and restarts the moments of the rest', () => {
    const adapter = sara({ threshold: 0.3, settle: 4 })
    const tuned = on(adapter, 'blocks.0.attn.q')
    const [{ site, prefix }] = [tuned.bound[0]!]
    const k = countParams(tuned.params)
    const grown = tensor1d(
      Float32Array.from(tuned.params[`${prefix}.values`]!.dataSync(), (v, i) => (i % 3 ? v / 2 : 1 + i)),
    )
    const params = { [`${prefix}.values`]: grown }
    const before = denseOf(tuned, params, site.name)
    const state = {
      values: grown,
      places: tuned.constants[`${prefix}.places`]!,
      all: tuned.constants[`${prefix}.all`]!,
      fixed: tuned.constants[`${prefix}.fixed`]!,
    }
    const of = (step: number) =>
      adapter.revise!({ [site.name]: { site, state, grads: {} } } as never, { step, steps: 10, rng: rng(0) })
    expect(of(3)).toEqual({})
    const { state: next, moments } = of(4)[site.name]!
    expect(next.values!.size).toBe(k - Math.ceil(k / 3))
    expect([...moments!.values!(grown, 'm').dataSync()]).toEqual(Array(next.values!.size).fill(0))
    const constants = Object.fromEntries(
      ['places', 'all', 'fixed'].map((n) => [`${prefix}.${n}`, (next as Params)[n]!]),
    )
    const again = tunedOf({ ...tuned, constants })
    const after = denseOf(again, { [`${prefix}.values`]: next.values! }, site.name)
    expect(distance(after, before)).toBeLessThan(1e-5)
    // what settled no longer moves
    const last = denseOf(again, { [`${prefix}.values`]: add(next.values!, 1) as never }, site.name)
    expect(changed(after, last)).toHaveLength(next.values!.size)
  })

  it('says what cannot be, and works on a packed base by its values as they are', () => {
    expect(() => sara({ threshold: 0 })).toThrow('sara: threshold must be above 0, found 0')
    const base = tinyLlama(rng(0), { keep: (w) => packed(toyCodec(), w) })
    expect(
      distance(logits(on(sara(), LINEARS, base)).dataSync(), logits(attach(base, [], rng(0))).dataSync()),
    ).toBeLessThan(2e-5)
  })
})
