import { attach, type Tuned } from '@weftjs/model'
import { mul, rng, type Tensor, tensor } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { type OftOptions, oft } from '../src/oft.ts'
import { distance } from './fixture.ts'
import { apart, network, one, type Rows, times, turn, unit } from './one.ts'

/** Q of a block from its upper triangle */
const skew = (v: readonly number[], b: number): number[][] => {
  const q = Array.from({ length: b }, () => Array<number>(b).fill(0))
  let k = 0
  for (let i = 0; i < b; i++)
    for (let j = i + 1; j < b; j++, k++) {
      q[i]![j] = v[k]!
      q[j]![i] = -v[k]!
    }
  return q
}
const diagonal = (blocks: readonly Rows[]): Rows =>
  blocks.flatMap((block, n) =>
    block.map((row) => blocks.flatMap((other, m) => (m === n ? [...row] : other[0]!.map(() => 0)))),
  )
const combine = (terms: readonly [number, Rows][]): Rows =>
  terms[0]![1].map((row, i) => row.map((_, j) => terms.reduce((s, [f, m]) => s + f * m[i]![j]!, 0)))

describe('oft', () => {
  it('turns two inputs by the angle 2·atan(q)', () => {
    const { state, w, after } = one(oft({ block: 2, neumann: false }))
    const blocks = state('q').map(([q]): Rows => {
      const angle = 2 * Math.atan(q!)
      return [
        [Math.cos(angle), Math.sin(angle)],
        [-Math.sin(angle), Math.cos(angle)],
      ]
    })
    expect(apart(after, times(w, diagonal(blocks)))).toBeLessThan(1e-5)
  })

  it('exactly: leaves the products of all pairs of rows as they are', () => {
    const { w, after } = one(oft({ block: 8, neumann: false }))
    expect(apart(times(after, turn(after)), times(w, turn(w)))).toBeLessThan(2e-5)
    expect(apart(after, w)).toBeGreaterThan(0.1)
  })

  // the series of PEFT 0.21: all terms twice but the first and the last
  it.each([
    [2, [1, 2]],
    [3, [1, 2, 2, 1]],
    [4, [1, 2, 2, 1]],
    [5, [1, 2, 2, 2, 1]],
    [7, [1, 2, 2, 2, 2, 2, 1]],
  ])('as a series of %i terms: factors %o of the powers of Q', (terms, factors) => {
    const { state, w, after } = one(oft({ block: 4, terms }))
    const blocks = state('q').map((v) => {
      const q = skew(v, 4)
      const powers = [unit(4) as Rows]
      while (powers.length < factors.length) powers.push(times(powers.at(-1)!, q))
      return turn(combine(factors.map((f, i) => [i % 2 ? -f : f, powers[i]!])))
    })
    // x·R with R = I − 2Q ... of our −Q, as PEFT's of its Q: W·Rᵀ
    const flipped = blocks.map((block) => turn(block))
    expect(apart(after, times(w, diagonal(flipped)))).toBeLessThan(1e-5)
  })

  it('the series is near the rotation by −Q, as in PEFT, while Q is small', () => {
    const q = (p: Tensor): Tensor => rng(7).normal(p.shape, 0.02)
    const series = one(oft({ block: 8 }), { change: q }).after
    const exact = one(oft({ block: 8, neumann: false }), { change: (p) => mul(q(p), -1) }).after
    expect(apart(series, exact)).toBeLessThan(1e-4)
  })

  it.each<[OftOptions, number, number]>([
    [{}, 1, 16], // 32 is more than there is
    [{ block: 5 }, 4, 4],
    [{ block: 6 }, 4, 4],
    [{ block: 7 }, 2, 8],
    [{ blocks: 8 }, 8, 2],
    [{ blocks: 3 }, 2, 8], // 2 is as near as 4, and smaller
    [{ block: 4, share: true }, 1, 4],
  ])('%o: %i rows of Q for blocks of %i among 16 inputs', (options, rows, b) => {
    expect(one(oft(options)).tuned.params['blocks.0.mlp.up.oft.q']!.shape).toEqual([rows, (b * (b - 1)) / 2])
  })

  it('holds Q within its radius, in the pass and after each step', () => {
    const radius = 0.1
    const adapter = oft({ block: 4, radius, neumann: false })
    const { params, after } = one(adapter)
    const q = params['blocks.0.mlp.up.oft.q']! as never
    const site = { name: 'x', kind: 'linear' as const, layer: 0, in: 16, out: 24 }
    const context = { step: 1, steps: 2, rng: rng(0) }
    const revised = adapter.revise!({ x: { site, state: { q }, grads: {} } }, context)['x']!.state.q as Tensor
    for (const v of revised.arraySync() as number[][])
      expect(Math.sqrt(2 * v.reduce((s, x) => s + x * x, 0))).toBeCloseTo(radius / 2, 5)
    const held = one(oft({ block: 4, neumann: false }), { change: () => revised })
    expect(apart(held.after, after)).toBeLessThan(1e-5)
  })

  it('leaves a share of the blocks as they are in a training step', () => {
    const { tuned, params } = one(oft({ block: 4, dropout: 0.6 }), { at: 'embed' })
    const row = (t: Tuned, p = params, options = {}): Float32Array =>
      t.run(p, { ids: tensor([3], [1, 1], 'int32') }, options).hidden.dataSync() as Float32Array
    expect(distance(row(tuned, params, { training: true, rng: rng(1) }), row(tuned))).toBeGreaterThan(1e-3)
  })

  it('turns the rows of an embedding', () => {
    const { state, w, after } = one(oft({ block: 2, neumann: false }), { at: 'embed' })
    const blocks = state('q').map(([q]): Rows => {
      const angle = 2 * Math.atan(q!)
      return [
        [Math.cos(angle), -Math.sin(angle)],
        [Math.sin(angle), Math.cos(angle)],
      ]
    })
    expect(apart(after, times(w, diagonal(blocks)))).toBeLessThan(1e-5)
  })

  it.each([
    [{ block: 4, blocks: 4 }, 'oft: block times blocks is the number of inputs; give one of the two'],
    [{ block: 0 }, 'oft: block must be a whole number of at least 1, found 0'],
    [{ terms: 1.5 }, 'oft: terms must be a whole number of at least 1, found 1.5'],
    [{ dropout: 2 }, 'oft: dropout must be in [0, 1), found 2'],
  ])('refuses %o', (options, message) => {
    expect(() => oft(options)).toThrow(message)
  })
  it('refuses blocks of one input', () => {
    expect(() => attach(network, [{ adapter: oft({ blocks: 16 }), at: '**.up' }], rng(0))).toThrow(
      'blocks.0.mlp.up: blocks of 1 have nothing to turn',
    )
  })
})
