import { attach, nextToken } from '@weftjs/model'
import type { Adapter, Network, Tensor, Tensor2D } from '@weftjs/spec'
import { backprop, bytesOf, linear, memory, rng, tensor, tidy, wasm, zeros } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { dense, lowRank, sum } from '@weftjs/weight'
import { beforeAll, describe, expect, it } from 'vitest'
import { int8, nf4, quantize } from '../src/index.ts'

beforeAll(async () => {
  await wasm()
})

const bytesIn = ({ weights }: Network<object>, wanted = (name: string) => name.startsWith('blocks.')): number =>
  Object.entries(weights)
    .filter(([name]) => wanted(name))
    .reduce((n, [, w]) => n + bytesOf(w.parts), 0)
const formats = ({ weights }: Network<object>): Record<string, string> =>
  Object.fromEntries(Object.entries(weights).map(([name, w]) => [name, w.format ?? 'dense']))

describe('quantize', () => {
  it('packs the matrices of the blocks, neither embedding nor head, and leaves the original as it was', async () => {
    const network = tinyLlama(rng(1))
    const before = formats(network)
    const steps: string[] = []
    const small = await quantize(network, nf4(), {
      onProgress: ({ name, weights, of }) => steps.push(`${name} ${weights}/${of}`),
    })
    for (const [name, format] of Object.entries(formats(small)))
      expect(format, name).toBe(name.startsWith('blocks.') ? 'nf4' : 'dense')
    expect(formats(network)).toEqual(before)
    expect(Object.values(network.weights).every((w) => !Object.values(w.parts).some((t) => t.isDisposed))).toBe(true)
    expect(small.weights['embed']).toBe(network.weights['embed'])
    expect(steps).toHaveLength(14)
    expect(steps.at(-1)).toMatch(/^blocks\.1\.mlp\.down 14\/14$/)
  })

  it('takes patterns for what to pack and what to leave', async () => {
    const network = tinyLlama(rng(1))
    const found = formats(await quantize(network, int8(), { at: ['**.attn.{q,v}', 'head'], skip: 'blocks.1.**' }))
    expect(Object.keys(found).filter((n) => found[n] === 'int8')).toEqual([
      'blocks.0.attn.q',
      'blocks.0.attn.v',
      'head',
    ])
    await expect(quantize(network, nf4(), { at: 'layers.*' })).rejects.toThrow(/"layers\.\*".*blocks\.0\.attn\.q/)
    const once = await quantize(network, nf4())
    await expect(quantize(once, nf4())).rejects.toThrow(/^blocks\.0\.attn\.q: is in format 'nf4' already/)
  })

  it('keeps no tensor but the parts, and with `consume` gives the dense ones back', async () => {
    const network = tinyLlama(rng(1))
    const { numTensors, numBytes } = memory()
    const small = await quantize(network, nf4(), { consume: true })
    const packed = Object.keys(small.weights).filter((n) => n.startsWith('blocks.')).length
    expect(memory().numTensors).toBe(numTensors + packed) // two parts for each matrix
    expect(memory().numBytes).toBeLessThan(numBytes)
    expect(network.weights['blocks.0.attn.q']!.parts['weight']!.isDisposed).toBe(true)
    expect(network.weights['embed']!.parts['weight']!.isDisposed).toBe(false)
  })

  it('does not dispose a tensor that another name holds', async () => {
    const w = rng(1).normal([8, 64]) as Tensor2D
    const network = { config: {}, weights: { 'blocks.0.a': dense(w), embed: dense(w) }, vectors: {} }
    await quantize(network, nf4(), { consume: true })
    expect(w.isDisposed).toBe(false)
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'refuses %s, naming the tensor and the place, and disposes nothing',
    async (odd) => {
      const values = new Float32Array(100 * 64).fill(0.5)
      values[70 * 64 + 3] = odd
      const bad = tensor(values, [100, 64]) as Tensor2D
      const good = rng(1).normal([8, 64]) as Tensor2D
      const network = { config: {}, weights: { 'blocks.0.a': dense(good), 'blocks.0.b': dense(bad) }, vectors: {} }
      const { numTensors } = memory()
      await expect(quantize(network, nf4(), { consume: true })).rejects.toThrow(`blocks.0.b: element [70, 3] is ${odd}`)
      expect(memory().numTensors).toBe(numTensors)
    },
  )
})

/** LoRA in its shortest form: no family imports another, its tests included */
const adapter = (rank: number): Adapter => ({
  name: 'low-rank',
  init: ({ in: input, out }, { rng }) => ({
    state: { a: rng.normal([rank, input], 0.1), b: zeros([out, rank]) },
  }),
  weight: (base, { a, b }) => sum(base, lowRank(b as Tensor2D, a as Tensor2D)),
})

describe('training on a quantized base', () => {
  const shape = { width: 128, hidden: 256, layers: 2, heads: 4, kvHeads: 2, vocabulary: 32 }
  const ids = Int32Array.from({ length: 32 }, (_, i) => (i * 7) % 32)
  const inputs = () => ({ ids: tensor(ids, [2, 16], 'int32') })

  it('holds about 1/7.75 of the bytes', async () => {
    const network = tinyLlama(rng(2), shape)
    const whole = bytesIn(network)
    expect(whole / bytesIn(await quantize(network, nf4({ double: true })))).toBeGreaterThan(7.7)
    expect(whole / bytesIn(await quantize(network, nf4()))).toBeCloseTo(32 / 4.5, 2)
    expect(whole / bytesIn(await quantize(network, int8()))).toBeGreaterThan(3.8)
  })

  it('learns, with gradients as on the decoded network, and no decoded matrix stays for the backward pass', async () => {
    const network = await quantize(tinyLlama(rng(2), shape), nf4({ double: true }), { consume: true })
    const decoded = {
      ...network,
      weights: Object.fromEntries(Object.entries(network.weights).map(([n, w]) => [n, dense(w.dense())])),
    }
    const naive = {
      ...network,
      weights: Object.fromEntries(
        Object.entries(network.weights).map(([n, w]) => [n, { ...w, apply: (x: Tensor) => linear(x, w.dense()) }]),
      ),
    }
    const at = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'
    const tuned = attach(network, [{ adapter: adapter(4), at }], rng(3))
    const same = attach(decoded, [{ adapter: adapter(4), at }], rng(3))
    const targets = Int32Array.from(ids, (i) => (i + 7) % 32)
    const held = { packed: 0, dense: 0, naive: 0 }
    const lossOf = (t: typeof tuned, key: keyof typeof held) =>
      tidy(() =>
        backprop((p) => {
          const start = memory().numBytes
          const loss = nextToken(t.run(p, inputs()), { targets, shape: [2, 16] })
          held[key] = memory().numBytes - start
          return loss
        }, t.params),
      )
    const a = lossOf(tuned, 'packed')
    const b = lossOf(same, 'dense')
    expect((await a.loss.data())[0]).toBeCloseTo((await b.loss.data())[0]!, 4)
    for (const [name, g] of Object.entries(a.grads)) {
      const [x, y] = [await g.data(), await b.grads[name]!.data()]
      x.forEach((v, i) => {
        expect(Math.abs(v - y[i]!), name).toBeLessThan(1e-4)
      })
    }
    // decoding as one multiplies leaves every matrix on the tape, all but those before the first trained tensor
    lossOf(attach(naive, [{ adapter: adapter(4), at }], rng(3)), 'naive')
    expect(held.naive - held.packed).toBeGreaterThan(0.8 * bytesIn(decoded))
    // tfjs counts what the tape of the dense network keeps, though there it is no copy
    expect(held.packed).toBeLessThan(held.dense)
  })
})
