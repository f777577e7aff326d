import { type Tensor, type TensorInfo, tensor } from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { multiply, TILES, tiles } from '../src/kernels/webgpu/matmul.ts'
import { dispatch, type Gpu, source } from '../src/kernels/webgpu/program.ts'
import { type Form, heightOf, tiled, widthOf } from '../src/kernels/webgpu/tiled.ts'
import { refused, startGpu, there } from './gpu.ts'

let gpu: Gpu
beforeAll(async () => {
  if (!there) return
  gpu = await startGpu()
})

interface Case {
  readonly m: number
  readonly n: number
  readonly k: number
  /** of a second pair; 0 where there is none */
  readonly r: number
  readonly batch: number
  readonly transposeA: boolean
  readonly transposeB: boolean
  /** a matrix and a bias are added, or all of it to a matrix in place */
  readonly more: boolean | 'into'
}

const fill = (size: number, seed: number): Float32Array => {
  let state = (seed * 2654435761 + 12345) >>> 0
  return Float32Array.from({ length: size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

/** −0.5·(op(a)·op(b) + op(c)·op(d)) + onto + bias as far as it is asked for, in double precision, and largest error */
const check = async (
  { m, n, k, r, batch, transposeA: tA, transposeB: tB, more }: Case,
  run: (inputs: Parameters<typeof multiply>[1]) => TensorInfo,
): Promise<number> => {
  const [a, b] = [fill(batch * m * k, 1), fill(k * n, 2)]
  const [c, d, onto, bias] = [fill(m * r, 3), fill(r * n, 4), fill(m * n, 5), fill(n, 6)]
  const at = (x: Float32Array, i: number, j: number, [rows, columns]: [number, number], turned: boolean): number =>
    turned ? x[j * rows + i]! : x[i * columns + j]!
  const store = (x: Float32Array, [rows, columns]: [number, number], turned: boolean, outer: number[] = []): Tensor =>
    tensor(x, [...outer, ...(turned ? [columns, rows] : [rows, columns])])
  const inputs = {
    a: store(a, [m, k], tA, batch > 1 ? [batch] : []),
    b: store(b, [k, n], tB),
    ...(r && { and: [store(c, [m, r], tA), store(d, [r, n], tB)] as const }),
    ...(more === true && { onto: tensor(onto, [m, n]), bias: tensor(bias) }),
    ...(more === 'into' && { into: tensor(onto, [m, n]) }),
  }
  const y = run({ ...inputs, transposeA: tA, transposeB: tB, scale: -0.5 })
  expect(y.shape.slice(-2)).toEqual([m, n])
  const got = (await (gpu as unknown as { read(id: object): Promise<Float32Array> }).read(y.dataId)) as Float32Array
  if (more !== 'into') gpu.disposeData(y.dataId)
  for (const t of Object.values(inputs).flat()) (t as Tensor).dispose()
  expect(refused.splice(0)).toEqual([])
  expect(got.length).toBe(batch * m * n)
  let [worst, largest] = [0, 1]
  for (let s = 0; s < batch; s++) {
    const matrix = a.subarray(s * m * k, (s + 1) * m * k)
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let sum = 0
        for (let p = 0; p < k; p++) sum += at(matrix, i, p, [m, k], tA) * at(b, p, j, [k, n], tB)
        for (let p = 0; p < r; p++) sum += at(c, i, p, [m, r], tA) * at(d, p, j, [r, n], tB)
        const right = -0.5 * sum + (more ? onto[i * n + j]! + (more === true ? bias[j]! : 0) : 0)
        const gap = Math.abs(got[(s * m + i) * n + j]! - right)
        largest = Math.max(largest, Math.abs(right))
        worst = Number.isNaN(gap) ? Number.POSITIVE_INFINITY : Math.max(worst, gap)
      }
  }
  return worst / largest
}

const forms = [0, 1, 2, 3].map((bits) => ({ transposeA: bits > 1, transposeB: bits % 2 === 1 }))
/** about a tile's border, on fours and off them */
const about = (size: number): fc.Arbitrary<number> =>
  fc.constantFrom(5, 8, 12, size - 4, size - 1, size, size + 1, size + 4).filter((n) => n > 4)

describe.skipIf(!there)('every tiling of the WebGPU product', () => {
  // shaders take software long to compile: the largest tile in the most common form alone
  for (const [name, tile] of Object.entries(TILES))
    it.each(name === 'huge' ? [forms[1]!] : name === 'square' ? forms : forms.slice(0, 3))(
      `${name}: %o`,
      async (form) => {
        const cases = fc.record({
          m: about(heightOf(tile)),
          n: about(widthOf(tile)),
          k: fc.constantFrom(1, 4, 7, 8, 31, 32, 36, 67),
          r: fc.constantFrom(0, 0, 3, 8, 20),
          more: fc.constantFrom(false, true, 'into' as const),
        })
        await fc.assert(
          fc.asyncProperty(cases, async (c) => {
            const gap = await check(
              { ...c, ...form, batch: 1 },
              (x) => multiply(gpu, x, { tile, parts: 1, subgroup: 1 })!,
            )
            expect(gap).toBeLessThan(2e-6)
          }),
          { numRuns: 2, seed: 5, endOnFailure: true },
        )
      },
    )

  it.each(forms.slice(1, 3))('shares a long sum among workgroups, over batches too: %o', async (form) => {
    for (const [batch, k, parts] of [
      [1, 515, 3],
      [3, 260, 4],
      [2, 33, 5], // more parts than slices of k
    ] as const) {
      const c = { m: 9, n: 20, k, r: 0, batch, more: false, ...form }
      expect(await check(c, (x) => multiply(gpu, x, { tile: TILES.square, parts, subgroup: 1 })!)).toBeLessThan(3e-6)
    }
  })

  it.each(forms)('takes few rows without tiles: %o', async (form) => {
    const cases = fc.record({
      m: fc.constantFrom(1, 2, 3, 4),
      n: fc.constantFrom(1, 4, 63, 68, 130),
      k: fc.constantFrom(1, 4, 60, 67, 260),
      r: fc.constantFrom(0, 3, 8),
      more: fc.constantFrom(false, true, 'into' as const),
    })
    await fc.assert(
      fc.asyncProperty(cases, async (c) => {
        const alone = { tile: TILES.square, parts: 1, subgroup: 1 }
        for (const plan of [undefined, alone]) // with subgroups, where there are any, and without
          expect(await check({ ...c, ...form, batch: 1 }, (x) => multiply(gpu, x, plan)!)).toBeLessThan(2e-6)
      }),
      { numRuns: 4, seed: 6, endOnFailure: true },
    )
  })
})

describe.skipIf(!there)('tiles of float16', () => {
  const form = (transposeA: boolean, transposeB: boolean, wide: boolean): Form => ({
    transposeA,
    transposeB,
    wide: { a: wide, b: wide, c: wide, d: wide, y: wide },
    and: false,
    onto: false,
    bias: false,
    into: false,
    half: true,
  })

  it('give results within 2e-3 of the largest, where the device has them', async ({ skip }) => {
    if (!gpu.device.features.has('shader-f16')) skip('this device has no shader-f16')
    tiles.half = true
    try {
      const c = { m: 70, n: 130, k: 515, r: 8, batch: 1, more: true, transposeA: false, transposeB: true }
      const gap = await check(c, (x) => multiply(gpu, x)!)
      expect(gap).toBeLessThan(2e-3)
      expect(gap).toBeGreaterThan(2e-6) // or it was not float16
    } finally {
      tiles.half = false
    }
  })

  it('are the same shader but for the type, which a device without shader-f16 refuses by name', async () => {
    for (const wide of [true, false]) {
      const program = tiled(form(false, true, wide), TILES.square)
      if (!gpu.device.features.has('shader-f16')) {
        gpu.device.pushErrorScope('validation')
        const messages = (await gpu.device.createShaderModule({ code: source(program) }).getCompilationInfo()).messages
        await gpu.device.popErrorScope()
        expect(messages.map((m) => m.message).join()).toContain("extension 'f16' is not allowed")
      }
      // the rest of the text, with float32 under the name of float16
      const named = {
        ...program,
        name: `${program.name} as f32`,
        enables: [],
        head: `alias vec4h = vec4f;${program.head}`,
      }
      const c = { m: 36, n: 40, k: 20, r: 0, batch: 1, more: false, transposeA: false, transposeB: true }
      const gap = await check(c, (x) => {
        const uniforms = [36, 40, 20, 0, [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], -0.5, 32, 1]
        return dispatch(gpu, named, {
          reads: [x.a, x.b as TensorInfo],
          writes: [[36, 40]],
          uniforms,
          groups: [2, 2],
        })[0]!
      })
      expect(gap).toBeLessThan(2e-6)
    }
  })
})
