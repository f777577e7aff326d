import { attach } from '@weftjs/model'
import { concat, mul, ones, rng, type Tensor, tensor, zeros } from '@weftjs/tensor'
import * as linalg from '@weftjs/tensor/linalg'
import { describe, expect, it } from 'vitest'
import { boft } from '../src/boft.ts'
import { oft } from '../src/oft.ts'
import { apart, network, one, type Rows, times, turn } from './one.ts'

const rigid = (p: Tensor, key: string): Tensor => (key === 's' ? ones(p.shape) : rng(3).normal(p.shape, 0.3))

describe('boft', () => {
  it.each([1, 2, 3])('%i factors: products of rows stay, outputs are scaled', (factors) => {
    const { w, after } = one(boft({ block: 4, factors }), { change: rigid })
    expect(apart(times(after, turn(after)), times(w, turn(w)))).toBeLessThan(5e-5)
    const twice = one(boft({ block: 4, factors }), {
      change: (p, k) => (k === 's' ? mul(2, rigid(p, k)) : rigid(p, k)),
    })
    expect(
      apart(
        twice.after,
        after.map((row) => row.map((v) => 2 * v)),
      ),
    ).toBeLessThan(1e-5)
  })

  it('with one factor is OFT: the upper triangle of Q is half of r − rᵀ', () => {
    const upper = rng(4).normal([8, 1], 0.3)
    const o = one(oft({ block: 2, neumann: false }), { change: () => upper })
    // r with 2q above the diagonal and nothing else
    const r = (shape: number[]): Tensor => {
      const data = new Float32Array(8 * 4)
      upper.dataSync().forEach((q, i) => {
        data[i * 4 + 1] = 2 * q
      })
      return tensor(data, shape)
    }
    const b = one(boft({ block: 2 }), { change: (p, key) => (key === 's' ? ones(p.shape) : r(p.shape)) })
    expect(apart(b.after, o.after)).toBeLessThan(1e-5)
  })

  it('mixes 2^(m−1) times as far with m factors: the last alone turns halves of blocks that stand apart', () => {
    /** which inputs reach which, by a rotation that is not the identity in factor i only */
    const reach = (factors: number, only: number): Rows => {
      const adapter = boft({ block: 4, factors })
      const change = (p: Tensor, key: string): Tensor => {
        if (key === 's') return ones(p.shape)
        const one = [1, ...p.shape.slice(1)]
        return concat(
          Array.from({ length: factors }, (_, i) => (i === only ? rng(5).normal(one) : zeros(one))),
          0,
        )
      }
      const { w, after } = one(adapter, { at: 'blocks.0.attn.q', change })
      // W·R = after, W square: R by the exchange of inputs in W⁻¹; the pattern shows in WᵀW-free form by columns
      const { solve, matrix } = linalg
      const r = solve(matrix(16, 16, w.flat()), matrix(16, 16, after.flat()))
      return Array.from({ length: 16 }, (_, i) =>
        [...r.data.slice(i * 16, (i + 1) * 16)].map((v) => Number(Math.abs(v) > 1e-3)),
      )
    }
    const near = reach(3, 0)
    for (const [i, row] of near.entries())
      row.forEach((v, j) => {
        expect(v).toBe(Number(Math.floor(i / 4) === Math.floor(j / 4)))
      })
    // factor 1: halves of 2 in groups of 8, every other of them together
    const far = reach(3, 1)
    for (const [i, row] of far.entries())
      row.forEach((v, j) => {
        const same = Math.floor(i / 8) === Math.floor(j / 8) && Math.floor(i / 2) % 2 === Math.floor(j / 2) % 2
        expect(v).toBe(Number(same))
      })
  })

  it.each([
    [{ block: 5 }, 'blocks.0.mlp.up: 16 inputs are no whole number of blocks (3.2 of 5); choose a divisor'],
    [
      { block: 4, factors: 4 },
      'blocks.0.mlp.up: 4 factors need an even block and a multiple of 8 blocks, found 4 of 4',
    ],
  ])('refuses %o at 16 inputs', (options, message) => {
    expect(() => attach(network, [{ adapter: boft(options), at: '**.up' }], rng(0))).toThrow(message)
  })
  it('refuses both sizes', () => {
    expect(() => boft({ block: 4, blocks: 4 })).toThrow('boft: block times blocks is the number of inputs')
    expect(() => boft({ factors: 0 })).toThrow('boft: factors must be a whole number of at least 1, found 0')
  })
})
