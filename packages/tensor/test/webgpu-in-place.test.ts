import { backend, env, setBackend } from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'
import type { Gpu } from '../src/kernels/webgpu/program.ts'
import { hasGpuFiles, nodeWebgpu } from '../src/node-webgpu.ts'

const there = await hasGpuFiles()
const refused: string[] = []
beforeAll(async () => {
  if (!there) return
  await w.cpu()
  await nodeWebgpu()
  env().set('WEBGPU_CPU_FORWARD', false)
  const { device } = backend() as unknown as Gpu
  device.addEventListener('uncapturederror', (e) => refused.push((e as GPUUncapturedErrorEvent).error.message))
})

type Values = Record<string, number[]>
// more tensors than one dispatch binds, larger than a workgroup, and of one number
const sizes = fc.array(fc.constantFrom(1, 3, 64, 67, 1025, 40_001), { minLength: 1, maxLength: 9 })
const make = (sizes: readonly number[], seed: number, scale = 1): Record<string, w.Tensor> =>
  Object.fromEntries(sizes.map((n, i) => [`p${i}`, w.rng(seed).fork(i).uniform([n], -scale, scale)]))
const numbers = async (params: Readonly<Record<string, w.Tensor>>): Promise<Values> =>
  Object.fromEntries(
    await Promise.all(
      Object.entries(params).map(async ([n, t]): Promise<[string, number[]]> => [n, [...(await t.data())]]),
    ),
  )
const near = (found: Values, expected: Values, what: string): void => {
  expect(Object.keys(found), what).toEqual(Object.keys(expected))
  for (const [n, values] of Object.entries(expected)) {
    const size = values.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-30)
    const worst = values.reduce((m, v, i) => Math.max(m, Math.abs(v - found[n]![i]!)), 0)
    expect(worst / size, `${what} ${n}`).toBeLessThan(1e-5)
  }
}
const both = async (f: () => Promise<Values[]>): Promise<void> => {
  await setBackend('cpu')
  w.kernels.plain = true
  const plain = await f().finally(() => {
    w.kernels.plain = false
  })
  await setBackend('webgpu')
  const fast = await f()
  fast.forEach((values, i) => {
    near(values, plain[i]!, `result ${i}`)
  })
  expect(refused).toEqual([])
}

describe.skipIf(!there)("the optimizer's part of a step on webgpu", () => {
  it('is Adam, for three steps of many tensors, in their own buffers', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, fc.constantFrom(0, 0.1), fc.constantFrom(1e-4, 30), async (sizes, decay, size) => {
        const settings = { b1: 0.9, b2: 0.99, eps: 1e-8, decay, scale: -2e-3 }
        await both(async () => {
          const params = make(sizes, 1)
          const decaying = w.selectParams(params, (n) => n !== 'p1')
          let state = { m: w.mapParams(params, (t) => w.zerosLike(t)), v: w.mapParams(params, (t) => w.zerosLike(t)) }
          const seen: Values[] = []
          for (let step = 1; step <= 3; step++) {
            const grads = make(sizes, 10 + step, size)
            const { updates, m, v } = w.adamUpdates(grads, state, decaying, { ...settings, step })
            seen.push(await numbers(updates), await numbers(m), await numbers(v))
            w.disposeReplaced([state, grads, updates], [m, v])
            state = { m, v }
          }
          w.disposeReplaced([state, params], {})
          return seen
        })
      }),
      { numRuns: 4, seed: 5 },
    )
  })

  it('is norm, scaling and adding', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, fc.constantFrom(-0.5, 1), (sizes, s) =>
        both(async () => [
          await numbers({ norm: w.globalNorm(make(sizes, 3)) }),
          await numbers(w.scaleInPlace(make(sizes, 3), s)),
          await numbers(w.scaleInPlace(make(sizes, 3), w.scalar(s))),
          await numbers(w.addInPlace(make(sizes, 3), make(sizes, 4), s)),
        ]),
      ),
      { numRuns: 4, seed: 6 },
    )
  })

  it('leaves alone what others hold, and takes no buffer for two things', async () => {
    await both(async () => {
      const made = make([7, 70], 1)
      const held = w.mapParams(made, (t) => w.clone(t))
      const twice = { a: made['p0']!, b: made['p0']! }
      const one = w.rng(4).uniform([70])
      return [
        await numbers(w.scaleInPlace(made, 3)),
        await numbers(held),
        await numbers(w.scaleInPlace({ a: one, b: one }, 2)),
        await numbers(w.addInPlace({ a: one }, { a: one }, 2)),
        await numbers(w.addInPlace(twice, twice)),
      ]
    })
  })

  it('makes few dispatches for many small tensors', async () => {
    await setBackend('webgpu')
    const sizes = Array(24).fill(33) as number[]
    const [grads, m, v] = [make(sizes, 1), make(sizes, 2), w.mapParams(make(sizes, 3), w.square)]
    await numbers(v)
    const { numTensors } = w.memory()
    const profiling = w.startProfile()
    w.adamUpdates(grads, { m, v }, {}, { b1: 0.9, b2: 0.9, eps: 0, decay: 0, scale: 1, step: 2 })
    const { rows } = await profiling.stop()
    expect(w.memory().numTensors).toBe(numTensors)
    const { limits } = (backend() as unknown as Gpu).device
    const each = Math.floor((limits.maxStorageBuffersPerShaderStage - 1) / 3)
    expect(rows.reduce((n, r) => n + r.calls, 0)).toBe(Math.ceil(24 / each))
  })
})
