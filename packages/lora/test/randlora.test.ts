import { attach, nextToken } from '@weftjs/model'
import { backprop, cpu, fill, rng, type Tensor, tensor } from '@weftjs/tensor'
import { matrix, svd } from '@weftjs/tensor/linalg'
import { describe, expect, it } from 'vitest'
import { randlora } from '../src/randlora.ts'
import { apart, network, one, plus, type Rows, times, turn } from './one.ts'

await cpu()
const rank = (rows: Rows): number => {
  const { s } = svd(matrix(rows.length, rows[0]!.length, rows.flat()))
  return [...s].filter((v) => v > 1e-4 * s[0]!).length
}

describe('randlora', () => {
  it.each([
    ['blocks.0.mlp.up', false],
    ['blocks.0.mlp.down', true],
    ['blocks.0.attn.o', false],
  ])('%s: mixes N random bases by Λ and Γ, on the smaller side', (at, onOut) => {
    const r = 3
    const { tuned, state, w, after } = one(randlora({ rank: r, alpha: 6 }), { at })
    const [m, M] = [Math.min(w.length, w[0]!.length), Math.max(w.length, w[0]!.length)]
    const N = Math.ceil(m / r)
    const [lambda, gamma] = [state('lambda'), state('gamma')]
    expect([lambda.length, lambda[0]!.length, gamma.length, gamma[0]!.length]).toEqual([r, N, N, m])
    const a = tuned.constants['randlora.shared.a']!.arraySync() as number[][][] // [r, 1, m]
    const b = tuned.constants['randlora.shared.b']!.arraySync() as number[][][] // [M, N, r]
    const scaled = a.flatMap((row, k) => gamma.map((g, n) => row[0]!.map((v, j) => lambda[k]![n]! * v * g[j]!)))
    const delta = times(
      b.map((row) => row.flat()),
      scaled,
    ) // [M, m]
    expect(delta.length).toBe(M)
    expect(apart(after, plus(w, onOut ? turn(delta) : delta, 6 / r))).toBeLessThan(1e-4)
  })

  it('is of full rank when both Λ and Γ are random, and of rank r at most while all of Γ is equal', () => {
    const adapter = randlora({ rank: 4 })
    const random = one(adapter)
    expect(rank(plus(random.after, random.w, -1))).toBe(16)
    const equal = one(adapter, { change: (p, key) => (key === 'gamma' ? fill(p.shape, 0.1) : rng(4).normal(p.shape)) })
    expect(rank(plus(equal.after, equal.w, -1))).toBeLessThanOrEqual(4)
  })

  it('moves only Λ in the first step', () => {
    const tuned = attach(network, [{ adapter: randlora({ rank: 4 }), at: 'blocks.0.mlp.up' }], rng(1))
    const ids = tensor([1, 2, 3, 4, 5, 6], [1, 6], 'int32')
    const batch = {
      shape: [1, 6] as [number, number],
      ids: ids.dataSync() as Int32Array,
      targets: Int32Array.from([2, 3, 4, 5, 6, -100]),
      positions: Int32Array.from([0, 1, 2, 3, 4, 5]),
      segments: new Int32Array(6).fill(1),
    }
    const { grads } = backprop((p) => nextToken(tuned.run(p, { ids }, { training: true }), batch), tuned.params)
    const largest = (t: Tensor): number => Math.max(...t.dataSync().map(Math.abs))
    expect(largest(grads['blocks.0.mlp.up.randlora.lambda']!)).toBeGreaterThan(1e-6)
    expect(largest(grads['blocks.0.mlp.up.randlora.gamma']!)).toBe(0)
  })

  it('has sparse bases of three values, of deviation one', () => {
    const { tuned } = one(randlora({ rank: 4, bases: 'sparse' }))
    const b = [...tuned.constants['randlora.shared.b']!.dataSync()]
    expect(new Set(b).size).toBe(3)
    const share = b.filter((v) => v === 0).length / b.length
    expect(share).toBeGreaterThan(0.55)
    expect(share).toBeLessThan(0.78)
    const mean = b.reduce((s, v) => s + v, 0) / b.length
    expect(b.reduce((s, v) => s + (v - mean) ** 2, 0) / (b.length - 1)).toBeCloseTo(1, 4)
  })

  it.each([
    [{ rank: 0 }, 'randlora: rank must be a whole number of at least 1, found 0'],
    [{ bases: 'dots' as never }, "randlora: bases must be 'dense', 'sparse' or 'very-sparse', found 'dots'"],
    [{ alpha: Number.POSITIVE_INFINITY }, 'randlora: alpha must be a number, found Infinity'],
  ])('refuses %o', (options, message) => {
    expect(() => randlora(options)).toThrow(message)
  })

  it('refuses a rank above the matrix', () => {
    expect(() => attach(network, [{ adapter: randlora({ rank: 9 }), at: '**.k' }], rng(0))).toThrow(
      'blocks.0.attn.k: rank 9 exceeds min(8, 16)',
    )
  })
})
