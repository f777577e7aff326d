import type { Merge, MergeContext, Tensor } from '@weftjs/spec'
import { cpu, kernels, memory, rng, tensor1d, tidy, wasm } from '@weftjs/tensor'
import fc from 'fast-check'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { keepLargest, linear, taskArithmetic, ties } from '../src/index.ts'

const context = (weights: readonly number[], base?: Tensor): MergeContext => ({
  name: 'w',
  weights,
  rng: rng(0),
  ...(base && { base }),
})
const near = (a: ArrayLike<number>, b: ArrayLike<number>, tolerance = 1e-5): void => {
  expect(a.length).toBe(b.length)
  for (let i = 0; i < a.length; i++)
    expect(Math.abs(a[i]! - b[i]!)).toBeLessThanOrEqual(tolerance * (1 + Math.abs(b[i]!)))
}
const number = fc.integer({ min: -400, max: 400 }).map((n) => n / 100)
const weight = fc.integer({ min: 1, max: 30 }).map((n) => n / 10)
/** n models of one tensor, their weights, and a base */
const models = fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 24 })).chain(([count, size]) =>
  fc.record({
    models: fc.array(fc.array(number, { minLength: size, maxLength: size }), { minLength: count, maxLength: count }),
    weights: fc.array(weight, { minLength: count, maxLength: count }),
    base: fc.array(number, { minLength: size, maxLength: size }),
    turn: fc.nat({ max: 3 }),
  }),
)
const run = (
  merge: Merge,
  given: readonly (readonly number[])[],
  weights: readonly number[],
  base?: readonly number[],
): Float32Array =>
  tidy(() => {
    const out = merge(
      given.map((m) => tensor1d([...m])),
      context(weights, base && tensor1d([...base])),
    )
    return out.dataSync().slice() as never
  }) as unknown as Float32Array

beforeAll(async () => {
  await cpu()
})

/** what any method should do, whether or not it needs a base */
const methods: [name: string, merge: Merge, equalModels: boolean][] = [
  ['linear', linear(), true],
  ['taskArithmetic, normalized', taskArithmetic({ normalize: true }), true],
  ['taskArithmetic', taskArithmetic(), false],
  ['ties', ties(), true],
  ['ties, trimmed', ties({ density: 0.5 }), false],
  ['ties, summed', ties({ normalize: false, lambda: 0.5 }), false],
]

describe.each(methods)('%s', (_, merge, equalModels) => {
  it('does not depend on the order of the models', () => {
    fc.assert(
      fc.property(models, ({ models, weights, base, turn }) => {
        const turned = <T>(list: readonly T[]): T[] => list.map((_, i) => list[(i + turn) % list.length]!)
        near(run(merge, turned(models), turned(weights), base), run(merge, models, weights, base), 1e-4)
      }),
      { numRuns: 60 },
    )
  })

  it('gives the base for no models, changes no input and leaves nothing behind', () => {
    near(run(merge, [], [], [1, -2, 3]), [1, -2, 3], 0)
    const inputs = [tensor1d([1, 2, 3]), tensor1d([3, 2, -1])]
    const base = tensor1d([0.5, 0, 1])
    const { numTensors } = memory()
    const out = merge(inputs, context([0.5, 1], base))
    expect(memory().numTensors).toBe(numTensors + 1)
    expect(out.shape).toEqual([3])
    near(inputs[0]!.dataSync(), [1, 2, 3], 0)
    near(base.dataSync(), [0.5, 0, 1], 0)
  })

  if (equalModels)
    it('gives the model for any number of equal ones', () => {
      fc.assert(
        fc.property(models, ({ models, weights, base }) => {
          near(
            run(
              merge,
              models.map(() => models[0]!),
              weights,
              base,
            ),
            models[0]!,
            1e-4,
          )
        }),
        { numRuns: 60 },
      )
    })

  it('wants a weight for each model', () => {
    expect(() =>
      run(
        merge,
        [[1], [2]].map((m) => [...m, 0, 0]),
        [1],
        [0, 0, 0],
      ),
    ).toThrow(/^w: 1 weights for 2 models/)
  })
})

describe('single methods', () => {
  it('linear: weights 1, 0 give the first model', () => {
    near(
      run(
        linear(),
        [
          [1, 2],
          [5, 6],
        ],
        [1, 0],
      ),
      [1, 2],
    )
    near(
      run(
        linear({ normalize: false }),
        [
          [1, 2],
          [5, 6],
        ],
        [0.5, 1],
      ),
      [5.5, 7],
    )
    expect(() => run(linear(), [[1], [2]], [1, -1])).toThrow('w: linear: the weights 1, -1 sum to 0')
    expect(() => run(linear(), [], [])).toThrow(/no model/)
  })

  it('taskArithmetic: adds weighted changes; base + 1·τ is the model', () => {
    fc.assert(
      fc.property(models, ({ models, base }) => near(run(taskArithmetic(), [models[0]!], [1], base), models[0]!)),
    )
    near(
      run(
        taskArithmetic({ lambda: 2 }),
        [
          [2, 1],
          [1, 3],
        ],
        [1, 0.5],
        [1, 1],
      ),
      [3, 3],
    )
    expect(() => run(taskArithmetic(), [[1]], [1])).toThrow(/^w: .*base_model/)
  })

  it('ties: of opposite changes the heavier side wins, and + where they balance', () => {
    near(
      run(
        ties(),
        [
          [2, -1, 1],
          [-1, 3, -1],
        ],
        [1, 1],
        [0, 0, 0],
      ),
      [2, 3, 1],
    )
    // the mean of what agrees, by weight
    near(run(ties(), [[2], [4], [-1]], [1, 3, 1], [0]), [3.5])
    near(
      run(
        ties({ density: [0.5, 1] }),
        [
          [2, 1],
          [0, 3],
        ],
        [1, 1],
        [0, 0],
      ),
      [2, 3],
    )
    near(run(ties({ density: 0.2 }), [[1, 2]], [1], [0, 0]), [0, 2]) // at least one number stays
    expect(() => run(ties({ density: 0 }), [[1, 2]], [1], [0, 0])).toThrow(/^w: density must be above 0, found 0/)
    expect(() => run(ties({ density: [1] }), [[1], [2]], [1, 1], [0])).toThrow(/no density for model 1/)
  })
})

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('keepLargest on %s', (_, start) => {
  beforeAll(async () => {
    await start()
  })
  afterEach(() => {
    kernels.plain = false
  })

  /** by sorting: the k largest magnitudes, of equals the first */
  const sorted = (x: readonly number[], k: number): number[] => {
    const kept = new Set(
      x
        .map((v, i) => [Math.abs(v), i] as const)
        .sort((a, b) => b[0] - a[0] || a[1] - b[1])
        .slice(0, k)
        .map(([, i]) => i),
    )
    return x.map((v, i) => (kept.has(i) ? v : 0))
  }
  it.each([false, true])('keeps exactly k, of equals the first (plain ops: %s)', (plain) => {
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.integer({ min: -3, max: 3 }),
            fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e30), max: Math.fround(1e30) }),
          ),
          {
            minLength: 1,
            maxLength: 60,
          },
        ),
        fc.nat(),
        (x, r) => {
          kernels.plain = plain
          const k = 1 + (r % x.length)
          // a denormal is zero to some processors
          const values = x.map((v) => (Math.abs(v) < 1e-30 ? 0 : Math.fround(v)))
          const got = tidy(() => keepLargest(tensor1d(values), k).dataSync() as never) as unknown as Float32Array
          expect([...got].map((v) => v + 0)).toEqual(sorted(values, k).map((v) => v + 0))
        },
      ),
      { numRuns: 80 },
    )
  })
})
