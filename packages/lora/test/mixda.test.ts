import { attach, nextToken } from '@weftjs/model'
import { rng, type Tensor, tensor, zeros } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { type MixdaOptions, mixda, trainable } from '../src/mixda.ts'
import {
  context,
  countOwn,
  expectNear,
  expectSameText,
  gap,
  ids,
  logits,
  moved,
  network,
  site,
  tune,
  values,
} from './beside.ts'
import { model } from './fixture.ts'

const at = 'blocks.*.mlp.down'
const small = { reduction: 4, gateWidth: 6 } as const
const erf = (x: number): number => {
  // the series of the error function: enough terms for |x| < 3
  let [sum, term] = [x, x]
  for (let n = 1; n < 60; n++) {
    term *= (-x * x) / n
    sum += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * sum
}

describe('mixda', () => {
  it('is Σ gₖ·(Uₖ·gelu(Dₖ·z + d) + u) + g·f with gates that sum to 1, by another way', async () => {
    const place = site({ name: 'blocks.0.mlp.down', kind: 'linear', in: 4, out: 2 })
    const adapter = mixda({ domains: 2, reduction: 2, gateWidth: 3, gateDropout: 0, gate: 'token' })
    const { state } = adapter.init(place, { rng: rng(1) } as never)!
    const full: Record<string, Tensor> = Object.fromEntries(
      Object.entries(state).map(([n, t]) => [n, rng(2).fork(n).normal(t.shape)]),
    )
    const z = rng(3).normal([1, 2, 4])
    const f = tensor([1, 2, 3, 4], [1, 2, 2])
    const y = await values(adapter.around!(() => f, z, full, context({ site: place })))
    const n = Object.fromEntries(
      await Promise.all(Object.entries(full).map(async ([k, t]) => [k, await values(t)] as const)),
    )
    const affine = (w: number[], b: number[], x: number[]): number[] =>
      b.map((v, i) => v + x.reduce((s, xj, j) => s + w[i * x.length + j]! * xj, 0))
    const zs = await values(z)
    const want = [0, 1].flatMap((t) => {
      const x = zs.slice(4 * t, 4 * t + 4)
      let h = x
      for (const i of [1, 2, 3]) h = affine(n[`gate${i}`]!, n[`gateBias${i}`]!, h).map((v) => Math.max(v, 0))
      const e = affine(n['gate4']!, n['gateBias4']!, h).map(Math.exp)
      const g = e.map((v) => v / e.reduce((a, b) => a + b))
      expect(g.reduce((a, b) => a + b)).toBeCloseTo(1, 6)
      const parts = [0, 1].map((k) =>
        affine(
          n[`up${k}`]!,
          n[`upBias${k}`]!,
          affine(n[`down${k}`]!, n[`downBias${k}`]!, x).map((v) => 0.5 * v * (1 + erf(v / Math.SQRT2))),
        ),
      )
      return [0, 1].map((i) => g[0]! * parts[0]![i]! + g[1]! * parts[1]![i]! + g[2]! * [1, 2, 3, 4][2 * t + i]!)
    })
    expectNear(y, want, 1e-4)
  })

  it('starts as the model only with a residual; else the frozen part is 1/(K + 1), or what the gate begins at', async () => {
    const plain = logits(attach(network, [], rng(0)))
    expect(await gap(logits(tune(mixda({ ...small, domains: 2, residual: true }), at)), plain)).toBe(0)
    expect(await gap(logits(tune(mixda({ ...small, domains: 2 }), at)), plain)).toBeGreaterThan(0.1)
    expect(await gap(logits(tune(mixda({ ...small, domains: 2, gateStart: 20 }), at)), plain)).toBeLessThan(1e-4)
  })

  it('shows no token what is to come', async () => {
    const tuned = tune(mixda({ ...small, domains: 2 }), at)
    const params = moved(tuned, 0.5)
    const of = (last: number) => values(tuned.forward(params, { ids: tensor([1, 2, 3, last], [1, 4], 'int32') }).logits)
    const [a, b] = [await of(4), await of(9)]
    expectNear(a.slice(0, 72), b.slice(0, 72), 1e-6)
    expect(() => tune(mixda({ ...small, gate: 'last' }), at)).toThrow('would show all tokens what is to come')
    await expectSameText(tuned, params)
  })

  it('an encoder has one gate for a text, from its last place', async () => {
    const base = await model('bert')
    const tuned = tune(mixda({ ...small, reduction: 8 }), at, base)
    const one = attach(base, [{ adapter: mixda({ ...small, reduction: 8, gate: 'token' }), at }], rng(2))
    const params = moved(tuned, 0.3)
    expect(await gap(logits(tuned, params), logits(one, params))).toBeGreaterThan(1e-4)
  })

  it('trains one domain and the gate in its first stage, and the gate in the second', () => {
    const names = (options: MixdaOptions): string[] =>
      Object.keys(tune(mixda({ ...small, domains: 2, ...options }), 'blocks.0.mlp.down').params).map(
        (n) => n.split('.').at(-1)!,
      )
    const gate = [1, 2, 3, 4].flatMap((i) => [`gate${i}`, `gateBias${i}`])
    const adapter = (k: number): string[] => [`down${k}`, `up${k}`, `downBias${k}`, `upBias${k}`]
    expect(names({}).sort()).toEqual([...gate, ...adapter(0), ...adapter(1)].sort())
    expect(names({ domain: 1 }).sort()).toEqual([...gate, ...adapter(1)].sort())
    expect(names({ stage: 2 }).sort()).toEqual(gate.sort())
    expect(countOwn(tune(mixda({ ...small, domains: 2, domain: 0 }), 'blocks.0.mlp.down'))).toBe(
      6 * (24 + 16) + 6 + 16 + 25 * 6 + 2 * 7 * 6 + 7 * 3,
    )
    expect(trainable(site({ in: 4096, out: 1024 }), { stage: 2 })).toBe(4097 * 768 + 2 * 769 * 768 + 769 * 2)
  })

  it('keeps old knowledge by mean (o − f)² over generic rows: 0 where o = f', async () => {
    const batch = { shape: [2, 5] as const, targets: Int32Array.from([2, 3, 4, 5, -100, 7, 8, 9, 10, -100]) }
    const generic = tensor([0, 1], [2], 'int32')
    const loss = async (
      tuned: ReturnType<typeof tune>,
      params = tuned.params,
      given: object = { generic },
      training = true,
    ) => (await values(nextToken(tuned.run(params, { ids: ids(), ...given }, { training }), batch)))[0]!
    const same = tune(mixda({ ...small, residual: true }), at)
    expect(await loss(same)).toBeCloseTo(await loss(same, same.params, {}), 6)
    const apart = moved(same, 0.5)
    const [off, on, twice] = [
      await loss(same, apart, {}),
      await loss(same, apart),
      await loss(same, apart, { generic: tensor([1, 1], [2], 'int32') }),
    ]
    expect(on).toBeGreaterThan(off + 1e-3)
    expect(twice).not.toBeCloseTo(on, 4)
    expect(await loss(same, apart, { generic }, false)).toBeCloseTo(off, 6)
  })

  it('the penalty by numbers worked out by hand', async () => {
    const place = site({ name: 'blocks.0.mlp.down', kind: 'linear', in: 2, out: 2 })
    const adapter = mixda({ domains: 1, reduction: 2, gateWidth: 1, residual: true, gate: 'token', old: 3 })
    const { state } = adapter.init(place, { rng: rng(1) } as never)!
    const none = Object.fromEntries(Object.entries(state).map(([n, t]) => [n, zeros(t.shape)]))
    // the gate is ½, U·gelu(0) + u = (2, 4): o − f = (1, 2) at every place
    const full = { ...none, upBias0: tensor([2, 4]) }
    const terms: Tensor[] = []
    const inputs = { generic: tensor([1, 0], [2], 'int32') }
    const ctx = context({ site: place, training: true, inputs, penalty: (t) => terms.push(t) })
    adapter.around!((z) => z, zeros([2, 3, 2]), full as never, ctx)
    // mean of (1, 4) is 2.5 on the row that counts: a mean over such rows, times 3
    expect(await values(terms[0]!)).toEqual([7.5])
  })

  it.each<[MixdaOptions, string, string]>([
    [{ reduction: 16 }, at, 'blocks.0.mlp.down: reduction 16 does not divide its 24 inputs'],
    [{ domains: 2, domain: 2 }, at, 'mixda: domain 2 is not one of 2, counted from 0'],
    [{ stage: 3 as never }, at, 'mixda: stage is 1 or 2, found 3'],
    [small, 'blocks.0.mlp', "blocks.0.mlp (mlp): domain adapters stand at 'blocks.*.mlp.down'"],
    [{ ...small, gateDropout: 1 }, at, 'mixda: gateDropout must be in [0, 1), found 1'],
  ])('refuses %o at %s', (options, where, message) => {
    expect(() => tune(mixda(options), where)).toThrow(message)
  })
})
