import { attach } from '@weftjs/model'
import { rng } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { bone } from '../src/bone.ts'
import { delora } from '../src/delora.ts'
import { lora } from '../src/lora.ts'
import { miss } from '../src/miss.ts'
import { shira } from '../src/shira.ts'
import { apart, network, one, plus, type Rows, rowsOf, times } from './one.ts'

const up = 'blocks.0.mlp.up' // [24, 16]

describe('miss', () => {
  it.each([4, 5, 16, 1])('every r-th column moves alike, r = %i, also where r does not divide', (rank) => {
    const { state, w, after, tuned, params } = one(miss({ rank }))
    const c = state('c') // [r, 24]
    const delta = w.map((row, i) => row.map((_, j) => c[j % rank]![i]!))
    expect(apart(after, plus(w, delta))).toBeLessThan(1e-6)
    const name = `${up}.miss.c`
    expect(params[name]!.shape).toEqual([rank, 24])
    expect(tuned.params[name]!.dataSync().every((v) => v === 0)).toBe(true)
  })

  it('mini repeats C along the outputs', () => {
    const { state, w, after } = one(miss({ rank: 4, mini: 6 }))
    const c = state('c') // [4, 6]
    expect(
      apart(
        after,
        plus(
          w,
          w.map((row, i) => row.map((_, j) => c[j % 4]![i % 6]!)),
        ),
      ),
    ).toBeLessThan(1e-6)
  })

  it('refuses more columns than there are, and pieces that do not fit', () => {
    const at = (options: object) => () => attach(network, [{ adapter: miss(options), at: up }], rng(1))
    expect(at({ rank: 17 })).toThrow('blocks.0.mlp.up: rank 17 exceeds its 16 inputs')
    expect(at({ rank: 4, mini: 7 })).toThrow('blocks.0.mlp.up: mini 7 does not divide its 24 outputs')
    expect(() => miss({ dropout: 1 })).toThrow('miss: dropout')
  })
})

describe('bone', () => {
  /** W_ij + W_ij·b + b by the definition, b of the block */
  const blocks = (w: Rows, r: number, of: (i: number, j: number) => Rows): Rows => {
    const out = w.map((row) => [...row])
    for (let i = 0; i < w.length / r; i++)
      for (let j = 0; j < w[0]!.length / r; j++) {
        const block = Array.from({ length: r }, (_, p) => w[i * r + p]!.slice(j * r, (j + 1) * r))
        const b = of(i, j)
        for (const [p, row] of plus(plus(block, times(block, b)), b).entries())
          for (const [q, v] of row.entries()) out[i * r + p]![j * r + q] = v
      }
    return out
  }
  const cubes = (t: { arraySync(): unknown }): Rows[] => t.arraySync() as unknown as Rows[]

  it.each(['out', 'in'] as const)('is W_ij·(I + b) + b, one b for all blocks of the same %s', (share) => {
    const { params, w, after } = one(bone({ rank: 4, share }))
    const b = cubes(params[`${up}.bone.b`]!)
    expect(b.length).toBe(share === 'out' ? 6 : 4)
    expect(
      apart(
        after,
        blocks(w, 4, (i, j) => b[share === 'out' ? i : j]!),
      ),
    ).toBeLessThan(1e-5)
  })

  it('of rank 1 scales each row by 1 + b and shifts it by b', () => {
    const { params, w, after } = one(bone({ rank: 1 }))
    const b = params[`${up}.bone.b`]!.dataSync()
    expect(
      apart(
        after,
        w.map((row, i) => row.map((v) => v * (1 + b[i]!) + b[i]!)),
      ),
    ).toBeLessThan(1e-6)
  })

  it('refuses blocks that do not fit, and a sharing that is none', () => {
    expect(() => attach(network, [{ adapter: bone({ rank: 5 }), at: up }], rng(1))).toThrow(
      'blocks.0.mlp.up: rank 5 does not divide 24 and 16',
    )
    expect(() => bone({ share: 'all' as never })).toThrow("bone: share must be 'out' or 'in'")
  })
})

describe('shira', () => {
  it('moves r·(in + out) entries, each once, and the others not at all', () => {
    const { tuned, params, w, after } = one(shira({ rank: 2 }))
    const places = rowsOf(tuned.constants[`${up}.shira.places`]!)
    const values = params[`${up}.shira.values`]!.dataSync()
    expect(values.length).toBe(2 * (16 + 24))
    const want = w.map((row) => [...row])
    for (const [k, v] of values.entries()) want[places[0]![k]!]![places[1]![k]!]! += v
    expect(apart(after, want)).toBeLessThan(1e-6)
    expect(after.flatMap((row, i) => row.filter((v, j) => v !== w[i]![j])).length).toBe(80)
    expect(new Set(places[0]!.map((r, k) => r * 16 + places[1]![k]!)).size).toBe(80)
  })

  it('refuses more entries than there are', () => {
    expect(() => attach(network, [{ adapter: shira({ rank: 10 }), at: up }], rng(1))).toThrow(
      'blocks.0.mlp.up: rank 10 is 400 entries, and the matrix [24, 16] has 384',
    )
  })
})

describe('delora', () => {
  it('is B·diag(λ/(r‖b‖‖a‖))·A·diag(‖w‖), norms of W by columns', () => {
    const { state, params, w, after } = one(delora({ rank: 3, lambda: 5 }))
    const [a, b] = [state('a'), state('b')]
    const lambda = params[`${up}.delora.lambda`]!.dataSync()[0]!
    const length = (v: readonly number[]): number => Math.hypot(...v)
    const columns = w[0]!.map((_, j) => length(w.map((row) => row[j]!)))
    const scaled = a.map((row, i) => {
      const s = lambda / 3 / (length(row) * length(b.map((r) => r[i]!)))
      return row.map((v, j) => v * s * columns[j]!)
    })
    expect(apart(after, plus(w, times(b, scaled)))).toBeLessThan(1e-4)
  })

  it('its update is as long as λ says, whatever the lengths of A and B: of rank 1 ‖ΔW·diag(1/‖w‖)‖ = λ', () => {
    const { w, after, params } = one(delora({ rank: 1, lambda: 2 }), { far: 7 })
    const lambda = params[`${up}.delora.lambda`]!.dataSync()[0]!
    const columns = w[0]!.map((_, j) => Math.hypot(...w.map((row) => row[j]!)))
    const all = after.flatMap((row, i) => row.map((v, j) => (v - w[i]![j]!) / columns[j]!))
    expect(Math.hypot(...all)).toBeCloseTo(Math.abs(lambda), 3)
  })

  it('counts one number more than LoRA', () => {
    const size = (adapter: ReturnType<typeof lora> | ReturnType<typeof delora>): number =>
      Object.values(attach(network, [{ adapter: adapter as never, at: up }], rng(1)).params).reduce(
        (n, p) => n + p.size,
        0,
      )
    expect(size(delora({ rank: 3 }))).toBe(size(lora({ rank: 3 })) + 1)
  })
})
