import { agreement, attach, nextToken } from '@weftjs/model'
import { backprop, layerNorm, linear, mul, rng, type Tensor, tensor, zeros } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { type MosaOptions, mosa } from '../src/mosa.ts'
import { context, expectNear, gap, ids, logits, moved, network, site, tune, values } from './beside.ts'

const at = 'blocks.*.mlp'
const batch = { shape: [2, 5] as const, targets: Int32Array.from([2, 3, 4, 5, -100, 7, 8, 9, 10, -100]) }
const start = (options: MosaOptions, d = 6) => mosa(options).init(site({ in: d, out: d }), { rng: rng(5) } as never)!

describe('mosa', () => {
  it('is the model itself at first', async () => {
    const plain = logits(attach(network, [], rng(0)))
    for (const split of ['up', 'both'] as const)
      expect(await gap(logits(tune(mosa({ width: 6, split }), at)), plain)).toBe(0)
  })

  it('parts each tensor into M disjoint sets of equal size, by entries, rows or columns', async () => {
    for (const by of ['entry', 'row', 'column'] as const) {
      const { state } = start({ width: 4, experts: 2, split: 'both', by })
      for (const [key, size] of [
        ['upOwner', 24],
        ['downOwner', 24],
        ['upBiasOwner', 6],
      ] as const) {
        const owner = await values(state[key]!)
        expect([0, 1].map((k) => owner.filter((o) => o === k).length)).toEqual([size / 2, size / 2])
      }
      const up = await values(state.upOwner)
      const rows = [0, 1, 2, 3, 4, 5].map((i) => up.slice(4 * i, 4 * i + 4))
      expect(rows.every((r) => new Set(r).size === 1)).toBe(by === 'row')
      expect([0, 1, 2, 3].every((j) => new Set(rows.map((r) => r[j])).size === 1)).toBe(by === 'column')
    }
  })

  it('trains in a pass only what its draw owns: elsewhere the gradient is zero', async () => {
    const tuned = tune(mosa({ width: 6, experts: 3 }), 'blocks.0.mlp')
    const params = moved(tuned)
    const owner = await values(tuned.constants['blocks.0.mlp.mosa.upOwner']!)
    const drawn = new Set<number>()
    for (let seed = 0; seed < 12; seed++) {
      const { grads } = backprop(
        (p) => nextToken(tuned.run(p, { ids: ids() }, { training: true, rng: rng(seed) }), batch),
        params,
      )
      const g = await values(grads['blocks.0.mlp.mosa.up']!)
      const [part, ...others] = [...new Set(owner.filter((_, i) => g[i] !== 0))]
      expect(others).toEqual([])
      expect(g.filter((v, i) => owner[i] === part && v === 0)).toEqual([])
      drawn.add(part!)
    }
    expect(drawn.size).toBe(3)
  })

  it('merged is the mean of the outputs of its M copies, where the way down is common', async () => {
    const adapter = mosa({ width: 4, experts: 3 })
    const { state } = start({ width: 4, experts: 3 })
    const full = { ...state, up: rng(1).normal([6, 4]), upBias: rng(2).normal([6]) } as typeof state
    const x = rng(3).normal([2, 6])
    const merged = await values(adapter.around!((v) => mul(v, 0), x, full, context()))
    const owner = { up: await values(state.upOwner), upBias: await values(state.upBiasOwner) }
    const copies: number[][] = []
    for (const k of [0, 1, 2]) {
      const only = async (t: Tensor, own: number[]): Promise<Tensor> =>
        tensor(
          (await values(t)).map((v, i) => (own[i] === k ? v : 0)),
          t.shape,
        )
      const copy = { ...full, up: await only(full.up, owner.up), upBias: await only(full.upBias, owner.upBias) }
      const plain = mosa({ width: 4, experts: 1 })
      copies.push(await values(plain.around!((v) => mul(v, 0), x, copy as typeof state, context())))
    }
    expectNear(
      merged,
      copies[0]!.map((_, i) => copies.reduce((s, c) => s + c[i]!, 0) / 3),
    )
    // the union is M times that
    const union = mosa({ width: 4, experts: 3, merge: 'sum' }).around!((v) => mul(v, 0), x, full, context())
    expectNear(
      await values(union),
      merged.map((v) => 3 * v),
    )
  })

  it('with one part is the plain adapter U·f(D·norm(x)), in training as after it', async () => {
    const adapter = mosa({ width: 4, experts: 1, activation: 'identity', place: 'after' })
    const { state } = start({ width: 4, experts: 1 })
    const full = { ...state, up: rng(1).normal([6, 4]), upBias: zeros([6]) } as typeof state
    const x = rng(3).normal([2, 6])
    const want = await values(linear(linear(layerNorm(x, full.norm, full.normBias), full.down), full.up))
    const before = await values(x)
    for (const ctx of [context(), context({ training: true, rng: rng(8) })])
      expectNear(
        await values(adapter.around!((v) => v, x, full, ctx)),
        want.map((v, i) => v + before[i]!),
      )
  })

  it('parts the way down about where it began', async () => {
    const tuned = tune(mosa({ width: 4, experts: 2, split: 'both' }), 'blocks.0.mlp')
    const [down, owner, begun] = await Promise.all(
      [
        tuned.params['blocks.0.mlp.mosa.down']!,
        ...['downOwner', 'downStart'].map((k) => tuned.constants[`blocks.0.mlp.mosa.${k}`]!),
      ].map(values),
    )
    expect(down).toEqual(begun)
    expect(new Set(owner)).toEqual(new Set([0, 1]))
    const { grads } = backprop(
      (p) => nextToken(tuned.run(p, { ids: ids() }, { training: true, rng: rng(1) }), batch),
      moved(tuned),
    )
    const g = await values(grads['blocks.0.mlp.mosa.down']!)
    expect(new Set(owner!.filter((_, i) => g[i] !== 0)).size).toBe(1)
  })

  it.each<[MosaOptions, string, string]>([
    [{ experts: 0 }, at, 'mosa: experts must be a whole number of at least 1, found 0'],
    [{ experts: 17 }, at, 'blocks.0.mlp: 17 experts for tensors of 16 parts; lower experts'],
    [{ experts: 6, width: 5, by: 'column' }, at, 'blocks.0.mlp: 6 experts for tensors of 5 parts'],
    [{}, 'blocks.0.mlp.up', "blocks.0.mlp.up (linear): adapters stand at 'blocks.*.mlp'"],
    [{ activation: 'swish' as never }, at, "mosa: there is no activation 'swish'"],
  ])('refuses %o at %s', (options, where, message) => {
    expect(() => tune(mosa(options), where)).toThrow(message)
  })
})

describe('agreement of two passes', () => {
  it('adds the mean of both divergences, by another way, and holds the first of each constant', async () => {
    const tuned = tune(mosa({ width: 6, experts: 2 }), at)
    const params = moved(tuned, 0.5)
    const pass = (p: typeof params, seed: number) => tuned.run(p, { ids: ids() }, { training: true, rng: rng(seed) })
    // two seeds that draw differently
    const seeds = [0, 1, 2, 3, 4, 5, 6, 7] as const
    const all = await Promise.all(
      seeds.map((s) => values(tuned.forward(params, { ids: ids() }, { training: true, rng: rng(s) }).logits)),
    )
    const other = seeds.find((s) => all[s]!.some((v, i) => v !== all[0]![i]))!
    const probabilities = (row: number[]): number[] => {
      const e = row.map(Math.exp)
      const total = e.reduce((a, b) => a + b)
      return e.map((v) => v / total)
    }
    const rows = (s: number): number[][] =>
      Array.from({ length: 10 }, (_, i) => probabilities(all[s]!.slice(24 * i, 24 * i + 24)))
    const kl = (p: number[], q: number[]): number => p.reduce((s, v, i) => s + v * Math.log(v / q[i]!), 0)
    const there = [...batch.targets.keys()].filter((i) => batch.targets[i]! >= 0)
    const apart =
      there.reduce((s, i) => s + kl(rows(0)[i]!, rows(other)[i]!) + kl(rows(other)[i]!, rows(0)[i]!), 0) / there.length
    const [plain] = await values(nextToken(pass(params, 0), batch))
    const [both] = await values(agreement(pass(params, 0), pass(params, other), batch, { weight: 3 }))
    expect(apart).toBeGreaterThan(0.01)
    expect(both).toBeCloseTo(plain! + (3 * apart) / 2, 4)
    // the gradient of each side's numbers is that of the divergence from the other, held: the logits' q − p and p − q
    const pair = { x: tensor(all[0]!, [2, 5, 24]), y: tensor(all[other]!, [2, 5, 24]) }
    const plainly = (hidden: Tensor) => ({
      ...{ hidden, head: (h: Tensor) => h },
      ...{ headWeight: undefined, softcap: undefined, penalty: undefined },
    })
    const slope = async (weight: number): Promise<number[][]> => {
      const { grads } = backprop(({ x, y }) => agreement(plainly(x!), plainly(y!), batch, { weight }), pair)
      return Promise.all([values(grads['x']!), values(grads['y']!)])
    }
    const [with3, without] = [await slope(3), await slope(0)]
    const gradients = with3.map((g, k) => g.map((v, i) => v - without[k]![i]!))
    for (const [i, row] of rows(0).entries())
      for (const [v, p] of row.entries()) {
        const want = there.includes(i) ? (1.5 * (p - rows(other)[i]![v]!)) / there.length : 0
        expect(gradients[0]![24 * i + v]).toBeCloseTo(want, 5)
        expect(gradients[1]![24 * i + v]).toBeCloseTo(-want, 5)
      }
    expect((await values(agreement(pass(params, 0), pass(params, 0), batch)))[0]).toBeCloseTo(plain!, 5)
    expect((await values(agreement(pass(params, 0), pass(params, other), batch, { weight: 0 })))[0]).toBeCloseTo(
      plain!,
      6,
    )
  })
})
