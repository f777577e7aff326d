import { countParams, cpu } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { factored, type LokrOptions, lokr } from '../src/lokr.ts'
import { apart, one, plus, type Rows, times } from './one.ts'

await cpu()
const kron = (a: Rows, b: Rows): Rows => a.flatMap((ra) => b.map((rb) => ra.flatMap((x) => rb.map((y) => x * y))))

describe('lokr', () => {
  // what PEFT 0.21's factorization gives
  it.each([
    [256, -1, 16, 16],
    [128, -1, 8, 16],
    [127, -1, 1, 127],
    [128, 4, 4, 32],
    [48, 5, 4, 12],
    [48, 7, 6, 8],
    [24, 64, 4, 6],
    [16, 8, 8, 2],
    [1, -1, 1, 1],
  ])('cuts %i by %i into %i and %i', (n, factor, small, large) => {
    expect(factored(n, factor)).toEqual([small, large])
  })

  it.each<[LokrOptions, string[]]>([
    [{ rank: 8 }, ['c', 'd']],
    [{ rank: 1 }, ['c', 'da', 'db']],
    [{ rank: 1, decomposeBoth: true, factor: 4 }, ['ca', 'cb', 'da', 'db']],
    [{ rank: 3, factor: 2, init: 'lycoris' }, ['c', 'da', 'db']],
  ])('%o: adds (α/r)·C⊗D', (options, keys) => {
    const { tuned, state, w, after } = one(lokr({ ...options, alpha: 5 }))
    expect(
      Object.keys(tuned.params)
        .map((n) => n.split('.').at(-1))
        .sort(),
    ).toEqual(keys)
    const whole = (name: string): Rows =>
      keys.includes(name) ? state(name) : times(state(`${name}a`), state(`${name}b`))
    expect(apart(after, plus(w, kron(whole('c'), whole('d')), 5 / options.rank!))).toBeLessThan(1e-5)
  })

  it('is every number of the matrix where the smaller factors are one', () => {
    const { tuned, state, w, after } = one(lokr({ rank: 16, alpha: 16, factor: 1 }))
    expect(countParams(tuned.params)).toBe(1 + 24 * 16)
    const c = state('c')[0]![0]!
    expect(apart(after, plus(w, state('d'), c))).toBeLessThan(1e-5)
  })

  it.each([
    [{ init: 'peft' as const, decomposeBoth: true, rank: 1, factor: 4 }, 'ca'],
    [{ init: 'lycoris' as const, rank: 1 }, 'db'],
    [{ init: 'lycoris' as const, rank: 9 }, 'd'],
  ])('%o: starts with %s zero and the rest random', (options, zero) => {
    for (const [name, t] of Object.entries(one(lokr(options)).tuned.params))
      expect(
        [...t.dataSync()].every((v) => v === 0),
        name,
      ).toBe(name.endsWith(`.${zero}`))
  })

  it('refuses what is no factor and no start', () => {
    expect(() => lokr({ factor: 0 })).toThrow('lokr: factor (or -1) must be a whole number of at least 1, found 0')
    expect(() => lokr({ init: 'none' as never })).toThrow("lokr: init must be 'peft' or 'lycoris', found 'none'")
    expect(() => one(lokr({ rank: 0 }))).toThrow('blocks.0.mlp.up: rank must be a whole number of at least 1, found 0')
  })
})
