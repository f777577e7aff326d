import { lora } from '@weftjs/lora/lora'
import type { Batch, Network, Params } from '@weftjs/spec'
import { add, backprop, cpu, mapParams, memory, peakBytes, rng, tidy } from '@weftjs/tensor'
import { beforeAll, describe, expect, it } from 'vitest'
import { attach, coServe, inputsOf, nextToken, type TransformerConfig, type Tuned, windowed } from '../src/index.ts'
import { distance, fixture } from './fixture.ts'

await cpu()
const batchOf = (B: number, T: number, ignore: (t: number) => boolean = () => false): Batch => ({
  shape: [B, T],
  ids: Int32Array.from({ length: B * T }, (_, i) => 4 + ((i * 7 + 3 * Math.floor(i / T)) % 80)),
  targets: Int32Array.from({ length: B * T }, (_, i) =>
    (i + 1) % T && !ignore(i % T) ? 4 + (((i + 1) * 7) % 80) : -100,
  ),
  positions: Int32Array.from({ length: B * T }, (_, i) => i % T),
  segments: new Int32Array(B * T).fill(1),
})
const tune = (network: Network<TransformerConfig>): [Tuned, Params] => {
  const tuned = attach(network, [{ adapter: lora({ rank: 2 }), at: 'blocks.*.*.{q,k,v,o,qkv,gate,up,down}' }], rng(1))
  return [tuned, mapParams(tuned.params, (p, n) => add(p, rng(2).fork(n).normal(p.shape, 0.1)))]
}
const ordinary = (tuned: Tuned, params: Params, batch: Batch) =>
  backprop((p) => nextToken(tuned.run(p, inputsOf(batch), { training: true }), batch), params)

describe('training by windows of tokens', () => {
  // rotary with shared heads, learned positions, sliding windows and soft caps, norms of q and k
  it.each(['llama', 'gpt2', 'gemma2', 'qwen3'])('has the loss and the gradients of a whole pass: %s', async (name) => {
    const [tuned, params] = tune((await fixture(name)).network)
    const batch = batchOf(2, 12, (t) => t >= 5 && t < 10) // a window without any target among them
    const want = ordinary(tuned, params, batch)
    const before = memory().numTensors
    for (const window of [1, 5, 7, 12, 40]) {
      const found = await windowed(tuned, params, batch, { window })
      expect(Math.abs((await found.loss.data())[0]! - (await want.loss.data())[0]!)).toBeLessThan(1e-5)
      for (const n of Object.keys(params)) {
        const right = await want.grads[n]!.data()
        const size = Math.max(...right.map(Math.abs))
        expect(distance(await found.grads[n]!.data(), right) / size, `${n}, windows of ${window}`).toBeLessThan(2e-5)
      }
      for (const t of [found.loss, ...Object.values(found.grads)]) t.dispose()
      expect(memory().numTensors).toBe(before)
    }
  })

  it('holds less than a whole pass', async () => {
    const [tuned, params] = tune((await fixture('llama')).network)
    const batch = batchOf(1, 60)
    const peak = peakBytes()
    const over = async (f: () => Promise<void> | void): Promise<number> => {
      peak.reset()
      const { now } = peak
      await f()
      return peak.bytes - now
    }
    const whole = await over(() =>
      tidy(() => {
        ordinary(tuned, params, batch)
      }),
    )
    const by = async (window: number) =>
      over(async () => {
        const { loss, grads } = await windowed(tuned, params, batch, { window })
        for (const t of [loss, ...Object.values(grads)]) t.dispose()
      })
    const [ten, five] = [await by(10), await by(5)]
    expect(ten).toBeLessThan(0.5 * whole)
    expect(five).toBeLessThan(ten)
  })

  it('serves others in between, whose answers do not change', async () => {
    const [tuned, params] = tune((await fixture('llama')).network)
    const ids = inputsOf(batchOf(1, 5))
    const answer = (): Float32Array => tidy(() => tuned.forward(params, ids).logits.dataSync() as Float32Array).slice()
    const plain = answer()
    const seen: string[] = []
    const { loss, grads } = await windowed(tuned, params, batchOf(1, 12), {
      window: 5,
      between: async ({ phase, window, of }) => {
        seen.push(`${phase} ${window}/${of}`)
        expect(distance(answer(), plain)).toBe(0)
      },
    })
    for (const t of [loss, ...Object.values(grads)]) t.dispose()
    expect(seen).toEqual(['forward 0/3', 'forward 1/3', 'backward 0/3', 'backward 1/3', 'backward 2/3'])
  })

  describe('says what is wrong', () => {
    let tuned: Tuned
    let params: Params
    beforeAll(async () => {
      ;[tuned, params] = tune((await fixture('llama')).network)
    })
    const run = (batch: Batch, window = 4, t = tuned) => windowed(t, params, batch, { window })
    it('of windows, rows, labels and models', async () => {
      await expect(run(batchOf(1, 8), 0)).rejects.toThrow(
        'windowed: window must be a whole number of at least 1, found 0',
      )
      const packed = { ...batchOf(1, 8), segments: Int32Array.of(1, 1, 1, 1, 2, 2, 2, 2) }
      await expect(run(packed)).rejects.toThrow('windowed: rows hold more than one text')
      await expect(run(batchOf(1, 8, () => true))).rejects.toThrow('the batch has no target at all')
      const bert = attach((await fixture('bert')).network, [], rng(0))
      await expect(run(batchOf(1, 8), 4, bert)).rejects.toThrow('windowed: bert does not predict the next token')
    })
    it('of an adapter that adds to the loss, and leaves nothing behind', async () => {
      const penal = {
        name: 'penal',
        init: () => ({ state: {} }),
        around: (next: (x: never) => never, x: never, _: object, ctx: { penalty(t: unknown): void }) => {
          const y = next(x)
          ctx.penalty(tidy(() => (y as { sum(): unknown }) && rng(0).normal([])))
          return y
        },
      }
      const t = attach((await fixture('llama')).network, [{ adapter: penal as never, at: 'blocks.0.mlp' }], rng(0))
      await expect(windowed(t, {}, batchOf(1, 8), { window: 4 })).rejects.toThrow('adds to the loss')
    })
  })
})

describe('co-serving', () => {
  const cost = (tokens: number): number => 2 + tokens
  it('takes inference first, then as much training as the time has room for', () => {
    const load = { inference: 5, training: 100, window: 64, budget: 20, cost }
    expect(coServe(load)).toEqual({ inference: 5, training: 13 })
    expect(coServe({ ...load, inference: 30 })).toEqual({ inference: 30, training: 0 })
    expect(coServe({ ...load, budget: 1000 })).toEqual({ inference: 5, training: 64 })
    expect(coServe({ ...load, training: 3 })).toEqual({ inference: 5, training: 3 })
    expect(coServe({ ...load, inference: 0, budget: 3 })).toEqual({ inference: 0, training: 1 })
    expect(() => coServe({ ...load, window: 1.5 })).toThrow(
      'coServe: window must be a whole number of tokens, found 1.5',
    )
  })
})
