import '@tensorflow/tfjs-backend-wasm'
import {
  backend,
  getKernel,
  matMul,
  memory,
  setBackend,
  type Tensor,
  tensor,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { useBlas } from '../src/blas.ts'
import { findNative } from '../src/native.ts'
import { gemmOf } from '../src/wasm/batch-matmul.ts'
import type { WasmBackend } from '../src/wasm/heap.ts'
import { installWasmMatmul } from '../src/wasm-matmul.ts'

interface Case {
  readonly shapeA: number[]
  readonly shapeB: number[]
  readonly transposeA: boolean
  readonly transposeB: boolean
}

const fill = (shape: readonly number[], seed: number): Float32Array => {
  let state = (seed * 2654435761 + 12345) >>> 0
  return Float32Array.from({ length: shape.reduce((p, d) => p * d, 1) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

/** op(A)·op(B) in double precision, leading dimensions broadcast: the definition. */
const reference = (
  { shapeA, shapeB, transposeA, transposeB }: Case,
  a: Float32Array,
  b: Float32Array,
): { shape: number[]; values: Float64Array } => {
  const [ra, ca] = shapeA.slice(-2) as [number, number]
  const [rb, cb] = shapeB.slice(-2) as [number, number]
  const [m, k, n] = [transposeA ? ca : ra, transposeA ? ra : ca, transposeB ? rb : cb]
  const rank = Math.max(shapeA.length, shapeB.length) - 2
  const pad = (shape: number[]): number[] => [
    ...new Array<number>(rank + 2 - shape.length).fill(1),
    ...shape.slice(0, -2),
  ]
  const [oa, ob] = [pad(shapeA), pad(shapeB)]
  const outer = oa.map((d, i) => (d === 1 ? ob[i]! : d))
  const batch = outer.reduce((p, d) => p * d, 1)
  const values = new Float64Array(batch * m * n)
  for (let s = 0; s < batch; s++) {
    let [ia, ib] = [0, 0]
    let place = batch
    let rest = s
    outer.forEach((d, i) => {
      place /= d
      const index = Math.floor(rest / place)
      rest %= place
      ia = ia * oa[i]! + (oa[i] === 1 ? 0 : index)
      ib = ib * ob[i]! + (ob[i] === 1 ? 0 : index)
    })
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let sum = 0
        for (let p = 0; p < k; p++)
          sum +=
            a[ia * m * k + (transposeA ? p * m + i : i * k + p)]! *
            b[ib * k * n + (transposeB ? j * k + p : p * n + j)]!
        values[(s * m + i) * n + j] = sum
      }
  }
  return { shape: [...outer, m, n], values }
}

const check = (product: Case): void => {
  const [a, b] = [fill(product.shapeA, 1), fill(product.shapeB, 2)]
  const { shape, values } = reference(product, a, b)
  const y = tidy(() =>
    matMul(tensor(a, product.shapeA), tensor(b, product.shapeB), product.transposeA, product.transposeB),
  )
  expect(y.shape).toEqual(shape)
  const got = y.dataSync()
  y.dispose()
  const k = product.shapeA.at(product.transposeA ? -2 : -1)!
  let worst = 0
  for (let i = 0; i < values.length; i++) worst = Math.max(worst, Math.abs(got[i]! - values[i]!))
  expect(Number.isNaN(worst)).toBe(false)
  expect(worst).toBeLessThan(2e-6 * Math.sqrt(k) + 1e-6)
}

const sizes = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 20 }) },
  { weight: 1, arbitrary: fc.integer({ min: 20, max: 70 }) },
)
const cases: fc.Arbitrary<Case> = fc
  .record({
    m: sizes,
    n: sizes,
    k: sizes,
    outer: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }),
    drop: fc.tuple(fc.nat({ max: 2 }), fc.nat({ max: 2 })),
    ones: fc.array(fc.constantFrom('a', 'b', 'none'), { minLength: 2, maxLength: 2 }),
    transposeA: fc.boolean(),
    transposeB: fc.boolean(),
  })
  .map(({ m, n, k, outer, drop, ones, transposeA, transposeB }) => {
    const lead = (who: 'a' | 'b', dropped: number): number[] =>
      outer.map((d, i) => (ones[i] === who ? 1 : d)).slice(Math.min(dropped, outer.length))
    // only one side may lack leading dimensions, or the other's would not be the output's
    const [dropA, dropB] = drop[0] <= drop[1] ? [0, drop[1]] : [drop[0], 0]
    return {
      shapeA: [...lead('a', dropA), ...(transposeA ? [k, m] : [m, k])],
      shapeB: [...lead('b', dropB), ...(transposeB ? [n, k] : [k, n])],
      transposeA,
      transposeB,
    }
  })
const forms = [0, 1, 2, 3].map((bits) => ({ transposeA: bits > 1, transposeB: bits % 2 === 1 }))
const plain = (m: number, n: number, k: number, form: (typeof forms)[number]): Case => ({
  shapeA: form.transposeA ? [k, m] : [m, k],
  shapeB: form.transposeB ? [n, k] : [k, n],
  ...form,
})

describe('matrix products on the wasm heap', () => {
  beforeAll(async () => {
    const warn = vi.spyOn(console, 'warn')
    await setBackend('wasm')
    const stock = getKernel('BatchMatMul', 'wasm')
    expect(await installWasmMatmul(backend())).toBe(true)
    expect(getKernel('BatchMatMul', 'wasm')).not.toBe(stock)
    expect(await installWasmMatmul(backend())).toBe(true)
    expect(warn).not.toHaveBeenCalled()
  })

  it('follows the definition for any shapes, transposes and broadcasts', () => {
    fc.assert(fc.property(cases, check), { numRuns: 400 })
  })

  it.each(forms)('crosses the blocks of every dimension: %o', (form) => {
    check(plain(13, 261, 1030, form))
    check(plain(2, 300, 515, form))
    check(plain(65, 9, 513, form))
  })

  it.each(forms)('does single rows and columns: %o', (form) => {
    for (const [m, n, k] of [
      [1, 37, 21],
      [37, 1, 21],
      [1, 1, 1],
      [1, 1, 40],
      [3, 70, 9],
    ] as const)
      check(plain(m, n, k, form))
  })

  it('writes nothing beyond the output', () => {
    for (const form of forms)
      for (const n of [1, 2, 3, 5, 6, 7, 9, 15]) {
        const [a, b] = [fill([7 * 5], 3), fill([5 * n], 4)]
        const around = tidy(() => {
          const before = tensor(fill([64], 5))
          const x = tensor(a, form.transposeA ? [5, 7] : [7, 5])
          const y = tensor(b, form.transposeB ? [n, 5] : [5, n])
          const out = matMul(x, y, form.transposeA, form.transposeB)
          const after = tensor(fill([64], 6))
          matMul(x, y, form.transposeA, form.transposeB)
          return [before, after, x, y, out].map((t) => Float32Array.from(t.dataSync()))
        })
        expect(around.slice(0, 4)).toEqual([fill([64], 5), fill([64], 6), a, b])
      }
  })

  it('multiplies empty matrices', () => {
    const y = matMul(tensor([], [2, 0]), tensor([], [0, 3]))
    expect([...y.dataSync()]).toEqual([0, 0, 0, 0, 0, 0])
    expect(matMul(tensor([], [0, 4]), tensor(fill([4, 3], 1), [4, 3])).shape).toEqual([0, 3])
  })

  it('goes on after the heap has grown and moved, and leaves no tensor behind', () => {
    const before = memory().numTensors
    const large = tensor(new Float32Array(2 ** 23))
    for (const form of forms) check(plain(30, 40, 50, form))
    large.dispose()
    expect(memory().numTensors).toBe(before)
  })

  it('carries infinities and NaN only to the sums they belong to', () => {
    const a = fill([9, 6], 1)
    a[0] = Number.NaN
    a[6 * 8] = Number.POSITIVE_INFINITY
    for (const transposed of [false, true]) {
      const y = tidy(() => {
        const x = tensor(a, [9, 6])
        const left: Tensor = transposed ? transpose(x) : x
        return matMul(left, tensor(fill([6, 11], 2), [6, 11]), transposed, false)
      })
      const rows = y.arraySync() as number[][]
      expect(rows[0]!.every(Number.isNaN)).toBe(true)
      expect(rows[8]!.every((v) => !Number.isFinite(v))).toBe(true)
      expect(rows.slice(1, 8).flat().every(Number.isFinite)).toBe(true)
    }
  })

  it('refuses inner dimensions that differ', () => {
    expect(() => matMul(tensor(fill([2, 3], 1), [2, 3]), tensor(fill([2, 3], 1), [2, 3]))).toThrow(/inner|Inner/)
  })
})

// After the tests above: the replacement stays for the rest of this process.
describe('matrix products by a system BLAS', () => {
  afterEach(() => {
    vi.unstubAllEnvs()
  })
  const wasm = (): WasmBackend => backend() as unknown as WasmBackend

  it.each(['off', '/nowhere/libblas.so'])('keeps our own kernel under WEFT_BLAS=%s', async (setting) => {
    const before = gemmOf(wasm())
    vi.stubEnv('WEFT_BLAS', setting)
    expect(await useBlas()).toBe('')
    expect(gemmOf(wasm())).toBe(before)
    check(plain(20, 30, 40, forms[1]!))
  })

  it('says what it found, and takes it', async () => {
    const before = gemmOf(wasm())
    const native = await findNative({ needs: ['cblas_sgemm', 'cblas_sgemv'] })
    const name = await useBlas()
    expect(name).toMatch('missing' in native ? /^$/ : new RegExp(`^${native.kind}`))
    expect(gemmOf(wasm()) === before).toBe('missing' in native)
  })

  it('follows the definition for any shapes, transposes and broadcasts', () => {
    fc.assert(fc.property(cases, check), { numRuns: 300 })
  })

  it.each(forms)('does single rows and columns, and goes on after the heap has grown: %o', (form) => {
    const large = tensor(new Float32Array(2 ** 24))
    check(plain(1, 90, 80, form))
    check(plain(90, 1, 80, form))
    check(plain(90, 70, 130, form))
    large.dispose()
  })
})
