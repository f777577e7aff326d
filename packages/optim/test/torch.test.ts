import { readFile } from 'node:fs/promises'
import type { Params, Transform } from '@weftjs/spec'
import { applyUpdates, cpu, tensor, wasm } from '@weftjs/tensor'
import { type Checkpoint, fromBytes, openSafetensors } from '@weftjs/tensor/checkpoint'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { adamw, clipByGlobalNorm, constant, cosine, linear, type Schedule, sgd, wsd } from '../src/index.ts'

await cpu()
const folder = new URL('./fixtures/', import.meta.url)
const file = await openSafetensors(fromBytes(new Uint8Array(await readFile(new URL('torch.safetensors', folder)))))
const { rates } = JSON.parse(await readFile(new URL('schedules.json', folder), 'utf8')) as {
  rates: Record<string, number[]>
}
const NAMES = ['w', 'v']
const read = async (from: Checkpoint, prefix: string): Promise<Params> => {
  const found: Record<string, ReturnType<typeof tensor>> = {}
  for (const n of NAMES) found[n] = tensor(await from.floats(`${prefix}${n}`), [...from.entry(`${prefix}${n}`).shape])
  return found
}
const gap = async (a: Params, b: Params): Promise<number> => {
  let worst = 0
  for (const n of NAMES) {
    const [x, y] = [await a[n]!.data(), await b[n]!.data()]
    for (let i = 0; i < y.length; i++)
      worst = Math.max(worst, Math.abs(x[i]! - y[i]!) / Math.max(1e-3, Math.abs(y[i]!)))
  }
  return worst
}

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])("torch's optimizers on %s, six steps with gradients from 10 down to 1e-4", (_, backend) => {
  beforeAll(async () => void (await backend()))
  afterAll(async () => void (await cpu()))
  const ours: Record<string, Transform<any>> = {
    adamw: adamw({ lr: 0.1, weightDecay: 0.01 }),
    'adamw-betas': adamw({ lr: 0.03, b1: 0.8, b2: 0.95, eps: 1e-3, weightDecay: 0.3 }),
    'adamw-no-decay': adamw({ lr: 0.05, weightDecay: 0 }),
    sgd: sgd({ lr: 0.1 }),
    'sgd-momentum': sgd({ lr: 0.05, momentum: 0.9, weightDecay: 0.1 }),
    'sgd-nesterov': sgd({ lr: 0.05, momentum: 0.8, nesterov: true }),
  }
  it.each(Object.entries(ours))('%s', async (name, transform) => {
    let params = await read(file, 'start.')
    let state = transform.init(params)
    for (let i = 0; i < 6; i++) {
      const [updates, next] = transform.update(await read(file, `grad.${i}.`), state, params)
      params = applyUpdates(params, updates)
      state = next
      expect(await gap(params, await read(file, `${name}.${i}.`)), `step ${i}`).toBeLessThan(2e-5)
    }
  })

  it.each([0.5, 100])('clip_grad_norm_ to %d', async (max) => {
    const prefix = `clip.${max.toFixed(1)}`
    for (let i = 0; i < 6; i++) {
      const [clipped] = clipByGlobalNorm(max).update(await read(file, `grad.${i}.`), null, {})
      expect(await gap(clipped, await read(file, `${prefix}.${i}.`)), `step ${i}`).toBeLessThan(2e-5)
    }
  })

  it("a group's own settings leave the other group's parameters as torch leaves them", async () => {
    const start = await read(file, 'start.')
    const transform = adamw({ lr: 0.1, weightDecay: 0.01, decays: (n) => n === 'w' })
    const [updates] = transform.update(await read(file, 'grad.0.'), transform.init(start), start)
    const plain = adamw({ lr: 0.1, weightDecay: 0 })
    const [without] = plain.update(await read(file, 'grad.0.'), plain.init(start), start)
    expect(await updates['v']!.data()).toEqual(await without['v']!.data())
    expect(await updates['w']!.data()).not.toEqual(await without['w']!.data())
  })
})

describe("transformers' schedules", () => {
  const ours: Record<string, Schedule> = {
    constant: constant(2e-3, { warmup: 4 }),
    linear: linear(2e-3, { steps: 20, warmup: 3 }),
    'linear-no-warmup': linear(2e-3, { steps: 20 }),
    cosine: cosine(2e-3, { steps: 20, warmup: 5 }),
    'cosine-no-warmup': cosine(2e-3, { steps: 20 }),
  }
  it.each(Object.entries(ours))('%s', (name, schedule) => {
    for (let step = 0; step <= 20; step++) expect(schedule(step), `step ${step}`).toBeCloseTo(rates[name]![step]!, 12)
  })
  it.each(Object.entries(ours))('%s: never negative, nor risen again, past its end', (name, schedule) => {
    const end = schedule(20)
    for (const step of [21, 24, 100]) expect(schedule(step)).toBe(end)
    if (name !== 'constant') expect(end).toBeCloseTo(0, 15)
  })
  it('WSD is constant between warm-up and its last part', () => {
    const schedule = wsd(1, { steps: 20, warmup: 4, decay: 5 })
    const all = Array.from({ length: 22 }, (_, i) => schedule(i))
    expect(all.slice(0, 5)).toEqual([0, 0.25, 0.5, 0.75, 1])
    expect(all.slice(4, 16)).toEqual(Array(12).fill(1))
    for (const [i, want] of [1, 0.8, 0.6, 0.4, 0.2, 0, 0].entries()) expect(all[15 + i]).toBeCloseTo(want, 12)
  })
})
