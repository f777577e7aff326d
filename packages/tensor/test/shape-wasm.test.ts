import { backend, setBackend } from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { beforeAll, expect, it } from 'vitest'
import * as w from '../src/index.ts'

beforeAll(async () => {
  await w.cpu()
  await w.wasm()
})

const size = (shape: readonly number[]): number => shape.reduce((p, n) => p * n, 1)
const counted = (shape: number[], dtype: 'float32' | 'int32'): w.Tensor =>
  w.tensor(
    Array.from({ length: size(shape) }, (_, i) => i),
    shape,
    dtype,
  )

/** f on the heap gives what it gives on the cpu */
const same = async (shape: number[], dtype: 'float32' | 'int32', f: (x: w.Tensor) => w.Tensor[]): Promise<void> => {
  const on = async (name: string) => {
    await setBackend(name)
    const before = w.memory().numTensors
    const ys = w.tidy(() => f(counted(shape, dtype)))
    const found = ys.map((y) => ({ shape: y.shape, dtype: y.dtype, values: Array.from(y.dataSync()) }))
    w.dispose(ys)
    expect(w.memory().numTensors).toBe(before)
    return found
  }
  expect(await on('wasm')).toEqual(await on('cpu'))
}
const dtype = fc.constantFrom<('float32' | 'int32')[]>('float32', 'int32')
/** sizes on both sides of a square of four, a strip of sixteen, and a long run */
const axis = fc.constantFrom(1, 2, 3, 4, 5, 15, 16, 17, 33, 64)
const shapes = (least: number, most: number): fc.Arbitrary<number[]> =>
  fc.array(axis, { minLength: least, maxLength: most }).filter((s) => size(s) <= 40_000)
const check = <T>(cases: fc.Arbitrary<T>, run: (c: T) => Promise<void>): Promise<void> =>
  fc.assert(fc.asyncProperty(cases, run), { numRuns: 40, seed: 3 })

it('transposes any axes', () =>
  check(
    fc.tuple(shapes(1, 5), dtype).chain(([s, d]) =>
      fc
        .shuffledSubarray(
          s.map((_, i) => i),
          { minLength: s.length },
        )
        .map((perm) => [s, d, perm] as const),
    ),
    ([s, d, perm]) => same(s, d, (x) => [w.transpose(x, [...perm])]),
  ))

it('takes slices and parts, and joins them', () =>
  check(fc.tuple(shapes(1, 5), dtype, fc.array(fc.nat(1000), { minLength: 11, maxLength: 11 })), ([s, d, picks]) => {
    const begin = s.map((n, i) => picks[i]! % n)
    const extent = s.map((n, i) => 1 + (picks[5 + i]! % (n - begin[i]!)))
    const at = picks[10]! % s.length
    const cut = 1 + (picks[0]! % s[at]!)
    const sizes = cut === s[at] ? [cut] : [cut, s[at]! - cut]
    return same(s, d, (x) => {
      const parts = w.split(x, sizes, at)
      return [w.slice(x, begin, extent), ...parts, w.concat([...parts, x], at)]
    })
  }))

it('repeats, spreads and takes apart', () =>
  check(
    fc.tuple(shapes(1, 4), dtype, fc.array(fc.constantFrom(1, 1, 2, 3), { minLength: 5, maxLength: 5 })),
    ([s, d, picks]) => {
      const reps = s.map((_, i) => picks[i]!)
      const at = picks[4]! % s.length
      const wide = s.map((n, i) => (n === 1 ? 4 * picks[i]! : n))
      return same(s, d, (x) => [w.tile(x, reps), w.broadcastTo(x, [2, ...wide]), ...w.unstack(x, at)])
    },
  ))

it('gathers along any axis, and says which index is outside', async () => {
  await check(
    fc.tuple(shapes(1, 4), dtype, fc.array(fc.nat(1000), { minLength: 1, maxLength: 9 }), fc.nat(3)),
    ([s, d, picks, a]) => {
      const axis = a % s.length
      const ids = picks.map((i) => i % s[axis]!)
      return same(s, d, (x) => [
        w.gather(x, w.tensor1d(ids, 'int32'), axis),
        w.gather(x, w.tensor(ids, [1, ids.length], 'int32') as never, axis),
      ])
    },
  )
  await setBackend('wasm')
  for (const id of [-1, 3])
    expect(() => w.gather(counted([3, 2], 'float32'), w.tensor1d([0, id], 'int32'))).toThrow(`index ${id}`)
})

it('long runs', () =>
  same([3, 5, 1000], 'float32', (x) => [w.slice(x, [1, 1, 0], [2, 3, 1000]), w.transpose(x, [1, 0, 2])]))

it('sums over any axes', () =>
  check(
    shapes(1, 4).chain((s) =>
      fc
        .subarray(
          s.map((_, i) => i),
          { minLength: 1 },
        )
        .map((axes) => [s, axes] as const),
    ),
    ([s, axes]) => same(s, 'float32', (x) => [w.sum(w.mod(x, 8), [...axes]), w.sum(w.mod(x, 8), [...axes], true)]),
  ))

it('shares what it need not copy, until the last tensor goes', async () => {
  await setBackend('wasm')
  const before = backend().numDataIds()
  const x = counted([8, 8], 'float32')
  const ys = w.tidy(() => [w.clone(x), w.cast(x, 'float32'), w.transpose(w.reshape(x, [1, 8, 8]), [1, 0, 2])])
  expect(backend().numDataIds()).toBe(before + 1)
  x.dispose()
  for (const y of ys) expect(y.dataSync()[9]).toBe(9)
  w.dispose(ys)
  expect(backend().numDataIds()).toBe(before)
  const whole = counted([2, 3], 'float32')
  const copy = w.slice(whole, [0, 0], [2, 3])
  expect(backend().numDataIds()).toBe(before + 2) // a slice is a copy on every backend, of all too
  w.dispose([whole, copy])
})
