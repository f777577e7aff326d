import { setBackend } from '@tensorflow/tfjs-core'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'
import { hasGpuFiles, nodeWebgpu } from '../src/node-webgpu.ts'

const backends: [name: string, start: () => Promise<unknown>][] = [
  ['cpu', w.cpu],
  ['wasm', w.wasm],
  ...((await hasGpuFiles()) ? [['webgpu', nodeWebgpu] as [string, () => Promise<unknown>]] : []),
]
/** one step: a norm, a product and a loss, with gradients */
const step = async (profiling?: w.Profiling): Promise<number[]> => {
  const r = w.rng(1)
  const x = r.normal([5, 8])
  const params = { scale: w.ones([8]), head: r.normal([3, 8]) }
  const forward = profiling?.span('forward')
  const { loss, grads } = w.tidy(() => {
    const found = w.backprop(
      (p) => w.sum(w.square(w.linear(w.rmsNorm(x, p['scale']!), p['head']!))) as w.Scalar,
      params,
    )
    forward?.()
    return found
  })
  const values = [...(await loss.data()), ...(await grads['head']!.data())]
  w.dispose([x, loss, ...Object.values(params), ...Object.values(grads)])
  return values
}

describe.each(backends)('a profile on %s', (name, start) => {
  beforeAll(async () => {
    await start()
  })
  afterEach(async () => {
    await setBackend(name)
  })

  it('names every kernel under its op, changes no number and leaves nothing behind', async () => {
    await setBackend(name)
    const plain = await step()
    const before = w.memory().numTensors
    const profiling = w.startProfile()
    const seen = await step(profiling)
    const { rows, trace, milliseconds, clock, backend, leftOut } = await profiling.stop()
    expect(seen).toEqual(plain)
    expect(w.memory().numTensors).toBe(before)
    expect({ backend, leftOut }).toEqual({ backend: name, leftOut: 0 })
    expect(rows.map((r) => r.op)).toEqual(expect.arrayContaining(['RmsNorm', 'RmsNorm gradient', 'Linear', 'Sum']))
    const parts = rows.filter((r) => r.op === 'Linear')
    const product = parts.find((r) => /matmul/i.test(r.kernel)) ?? parts.find((r) => r.kernel === 'Linear')!
    expect(product.calls).toBe(1)
    // x [5, 8], W [3, 8], y [5, 3]
    expect(product.bytes).toBeGreaterThanOrEqual((40 + 24 + 15) * 4)
    expect(product.bytes).toBeLessThan((40 + 24 + 15) * 4 + 256)
    expect(rows.reduce((n, r) => n + r.share, 0)).toBeCloseTo(1, 6)
    for (const r of rows) expect(r.milliseconds).toBeGreaterThanOrEqual(0)
    expect(rows.map((r) => r.milliseconds)).toEqual(rows.map((r) => r.milliseconds).sort((a, b) => b - a))
    if (clock === 'wall') expect(rows.reduce((n, r) => n + r.milliseconds, 0)).toBeLessThan(milliseconds)
    // the Trace Event Format, read back
    const { traceEvents } = JSON.parse(JSON.stringify(trace)) as typeof trace
    const spans = traceEvents.filter((e) => e.ph === 'X')
    for (const e of spans) {
      expect(e.ts).toBeGreaterThanOrEqual(0)
      expect(e.dur).toBeGreaterThanOrEqual(0)
      expect([e.pid, e.tid].every(Number.isInteger)).toBe(true)
    }
    const tracks = traceEvents.filter((e) => e.ph === 'M').map((e) => e.args!['name'])
    expect(tracks[0]).toBe('JavaScript')
    const forward = spans.find((e) => e.name === 'forward' && e.tid === 1)!
    const norm = spans.find((e) => e.name === 'RmsNorm' && e.tid === 1)!
    expect(norm.ts!).toBeGreaterThanOrEqual(forward.ts!)
    expect(norm.ts! + norm.dur!).toBeLessThanOrEqual(forward.ts! + forward.dur! + 0.002)
    if (clock === 'device') {
      const kernels = spans.filter((e) => e.tid === 2)
      expect(kernels.length).toBe(rows.reduce((n, r) => n + r.calls, 0))
      expect(kernels.reduce((n, e) => n + e.dur!, 0)).toBeGreaterThan(0)
      expect(spans.filter((e) => e.tid === 3).map((e) => e.name)).toEqual(['forward'])
    }
  })

  it('is off when it is stopped, runs alone, and goes through an error', async () => {
    await setBackend(name)
    const profiling = w.startProfile()
    expect(() => w.startProfile()).toThrow('profile: one is running; stop it first')
    expect(() => w.linear(w.ones([2, 3]), w.ones([2, 4]))).toThrow()
    const sum = w.sum(w.ones([4]))
    expect([...(await sum.data())]).toEqual([4])
    const { rows } = await profiling.stop()
    const calls = rows.map((r) => r.calls)
    expect(rows.map((r) => r.op)).toContain('Sum')
    await step()
    expect(rows.map((r) => r.calls)).toEqual(calls)
    const second = await w.startProfile().stop()
    expect(second.rows).toEqual([])
    sum.dispose()
  })

  if (name === 'webgpu')
    it('times more dispatches than one set of queries holds', async () => {
      await setBackend(name)
      const profiling = w.startProfile()
      let x: w.Tensor = w.rng(1).normal([3])
      x = w.tidy(() => {
        let y = w.exp(w.mul(x, 0))
        for (let i = 0; i < 1100; i++) y = w.tidy(() => w.add(y, 1))
        return y
      })
      expect([...(await x.data())]).toEqual([1101, 1101, 1101])
      const { rows } = await profiling.stop()
      expect(rows.find((r) => r.op === 'Add')!.calls).toBe(1100)
      x.dispose()
    })
})
