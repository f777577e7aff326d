import { setBackend } from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { expect } from 'vitest'
import * as w from '../src/index.ts'

type Values = Record<string, number[]>
const sizes = fc.array(fc.constantFrom(1, 2, 3, 4, 5, 64, 67, 1023, 1025, 3000), { minLength: 1, maxLength: 4 })
/** of several tensors, named by their place; every second one a matrix of one row */
const make = (sizes: readonly number[], seed: number, scale = 1): Record<string, w.Tensor> =>
  Object.fromEntries(
    sizes.map((n, i) => [
      `p${i}`,
      w
        .rng(seed)
        .fork(i)
        .uniform(i % 2 ? [1, n] : [n], -scale, scale),
    ]),
  )
const numbers = (params: w.AdamResult['m']): Values =>
  Object.fromEntries(Object.entries(params).map(([n, t]) => [n, Array.from(t.dataSync())]))
const near = (found: Values, expected: Values, what: string): void => {
  expect(Object.keys(found), what).toEqual(Object.keys(expected))
  for (const [n, values] of Object.entries(expected)) {
    const size = Math.max(...values.map(Math.abs), 1e-30)
    const worst = Math.max(...values.map((v, i) => Math.abs(v - found[n]![i]!)))
    expect(worst / size, `${what} ${n}`).toBeLessThan(1e-5)
  }
}
const both = async <T>(backend: string, f: () => T): Promise<[fast: T, plain: T]> => {
  await setBackend(backend)
  const fast = f()
  w.kernels.plain = true
  try {
    return [fast, f()]
  } finally {
    w.kernels.plain = false
  }
}

/** the optimizer's part of a step on a backend, beside composed ops */
export const inPlaceLaws: Readonly<Record<string, (backend: string) => Promise<void>>> = {
  'Adam, three steps of several tensors': (backend) =>
    fc.assert(
      fc.asyncProperty(
        sizes,
        fc.record({
          b1: fc.constantFrom(0, 0.9),
          b2: fc.constantFrom(0.95, 0.999),
          eps: fc.constantFrom(1e-8, 1e-3),
          decay: fc.constantFrom(0, 0.1),
          scale: fc.constantFrom(1, -2e-3),
        }),
        fc.constantFrom(1e-4, 1, 30),
        async (sizes, settings, size) => {
          const run = () => {
            const before = w.memory().numTensors
            const params = make(sizes, 1)
            const decaying = w.selectParams(params, (n) => n !== 'p1')
            let state = { m: w.mapParams(params, (t) => w.zerosLike(t)), v: w.mapParams(params, (t) => w.zerosLike(t)) }
            const seen: Values[] = []
            for (let step = 1; step <= 3; step++) {
              const grads = make(sizes, 10 + step, size)
              const { updates, m, v } = w.adamUpdates(grads, state, decaying, { ...settings, step })
              seen.push(numbers(updates), numbers(m), numbers(v), numbers(params))
              w.disposeReplaced([state, grads, updates], [m, v])
              state = { m, v }
            }
            w.disposeReplaced([state, params], {})
            return { seen, left: w.memory().numTensors - before, params: numbers(make(sizes, 1)) }
          }
          const [fast, plain] = await both(backend, run)
          fast.seen.forEach((values, i) => {
            near(values, plain.seen[i]!, `step ${1 + (i >> 2)}, ${['updates', 'm', 'v', 'params'][i % 4]}`)
          })
          if (backend !== 'cpu') expect(fast.left).toBe(0)
          expect(fast.seen[3]).toEqual(fast.params) // parameters stay
        },
      ),
      { numRuns: 12, seed: 5 },
    ),

  'norm, scaling and adding': (backend) =>
    fc.assert(
      fc.asyncProperty(sizes, fc.constantFrom(-0.5, 1), async (sizes, s) => {
        const [fast, plain] = await both(backend, () => [
          { norm: Array.from(w.globalNorm(make(sizes, 3)).dataSync()) },
          numbers(w.scaleInPlace(make(sizes, 3), s)),
          numbers(w.scaleInPlace(make(sizes, 3), w.scalar(s))),
          numbers(
            w.addInPlace(
              make(sizes, 3),
              w.selectParams(make(sizes, 4), (n) => n !== 'p1'),
            ),
          ),
          numbers(w.addInPlace(make(sizes, 3), make(sizes, 4), s)),
        ])
        fast.forEach((values, i) => {
          near(values, plain[i]!, `result ${i}`)
        })
      }),
      { numRuns: 12, seed: 6 },
    ),

  'what others hold is never written': async (backend) => {
    await setBackend(backend)
    const sizes = [7, 1025]
    const settings = { b1: 0.9, b2: 0.99, eps: 1e-8, decay: 0.1, scale: -0.1, step: 1 }
    const all = { g: make(sizes, 1), m: make(sizes, 2), v: w.mapParams(make(sizes, 3), w.square), y: make(sizes, 4) }
    const held = w.mapParams({ ...prefixed(all) }, (t) => w.clone(t))
    const before = numbers(held)
    w.adamUpdates(all.g, all, all.y, settings)
    w.addInPlace(all.y, all.g)
    w.scaleInPlace(all.y, 3)
    expect(numbers(held)).toEqual(before)
    expect(numbers(prefixed(all))).toEqual(before)
  },

  'nothing at all is no error': async (backend) => {
    await setBackend(backend)
    expect(w.adamUpdates({}, { m: {}, v: {} }, {}, { b1: 0, b2: 0, eps: 0, decay: 0, scale: 1, step: 1 })).toEqual({
      updates: {},
      m: {},
      v: {},
    })
    expect([w.addInPlace({}, {}), w.scaleInPlace({}, 2)]).toEqual([{}, {}])
    expect(w.globalNorm({}).dataSync()[0]).toBe(0)
  },
}

const prefixed = (all: Record<string, w.AdamResult['m']>): Record<string, w.Tensor> =>
  Object.fromEntries(Object.entries(all).flatMap(([a, ts]) => Object.entries(ts).map(([n, t]) => [`${a}.${n}`, t])))
