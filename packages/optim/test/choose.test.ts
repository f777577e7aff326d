import { attach, inputsOf, nextToken, sitesOf } from '@weftjs/model'
import type { Batch, Choice, Params, Scalar } from '@weftjs/spec'
import { backprop, countParams, cpu, rng, tensor, tensor2d } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import {
  adamw,
  apetTensors,
  drawUnits,
  halfReset,
  hft,
  similarityOf,
  telly,
  tellyK,
  tokenMean,
  train,
} from '../src/index.ts'

await cpu()
const network = tinyLlama(rng(0), { layers: 3, biases: true })
const sites = sitesOf(network)
const names = (choice: Choice, seed = 1): readonly string[] => choice(network, sites, rng(seed))
const all = [...Object.keys(network.weights), ...Object.keys(network.vectors)]
const batch: Batch = {
  shape: [1, 6],
  ids: Int32Array.from([1, 5, 9, 2, 7, 3]),
  targets: Int32Array.from([5, 9, 2, 7, 3, -100]),
  positions: Int32Array.from([0, 1, 2, 3, 4, 5]),
  segments: new Int32Array(6).fill(1),
}
const lossOf =
  (tuned: ReturnType<typeof attach>) =>
  (params: Params): Scalar =>
    nextToken(tuned.run(params, inputsOf(batch)), batch)

describe('hft', () => {
  it('freezes 2 of 4, 1 of 2, and of three matrices 2 in half of the blocks and 1 in the others', () => {
    for (let seed = 0; seed < 20; seed++) {
      const trains = new Set(names(hft(), seed))
      const frozen = all.filter((n) => !trains.has(n))
      const mlps = [0, 1, 2].map((i) => frozen.filter((n) => n.startsWith(`blocks.${i}.mlp.`)).length)
      for (const i of [0, 1, 2]) {
        const attention = frozen.filter((n) => n.startsWith(`blocks.${i}.attn.`))
        expect(attention.filter((n) => !n.endsWith('.bias'))).toHaveLength(2)
        // a bias goes with its matrix
        for (const n of attention) if (!n.endsWith('.bias')) expect(attention).toContain(`${n}.bias`)
        expect(frozen.filter((n) => n.startsWith(`blocks.${i}.norm`))).toHaveLength(1)
      }
      expect(mlps.sort()).toEqual([1, 1, 2]) // ⌊3·3/2⌋ = 4
      expect(frozen.every((n) => n.startsWith('blocks.'))).toBe(true)
    }
  })

  it('draws by the seed alone, anew for each phase, and every matrix in its turn', () => {
    expect(names(hft(), 3)).toEqual(names(hft(), 3))
    const drawn = Array.from({ length: 12 }, (_, seed) => names(hft(), seed).join())
    expect(new Set(drawn).size).toBeGreaterThan(10)
    const ever = new Set(Array.from({ length: 40 }, (_, seed) => names(hft(), seed)).flat())
    expect(ever.size).toBe(all.length)
  })

  it('a small ratio is full tuning; bad ratios are refused', () => {
    expect(names(hft({ ratio: 1e-6 }))).toEqual(all)
    expect(() => names(hft({ ratio: 1 }))).toThrow('hft: ratio must be in (0, 1), found 1')
    expect(() => hft()(network, [], rng(0))).toThrow('found no blocks')
  })

  it('leaves what it froze bit by bit, and keeps no optimizer state for it', async () => {
    const trains = names(hft())
    const tuned = attach(network, [], rng(0), { train: [...trains] })
    expect(Object.keys(tuned.params).sort()).toEqual([...trains].sort())
    for await (const s of train({ ...tuned, data: [batch], loss: lossOf(tuned), transform: adamw({ lr: 0.01 }) })) {
      const [{ m }] = s.state as [{ m: Params }]
      expect(Object.keys(m).sort()).toEqual([...trains].sort())
      const folded = tuned.fold(s.params)
      for (const n of all.filter((n) => !trains.includes(n)))
        expect(folded.weights[n] ?? folded.vectors[n]).toBe(network.weights[n] ?? network.vectors[n])
    }
  })

  it('half-reset puts the old values in the place of what was not chosen', () => {
    const [a, b] = [
      { x: tensor([1]), y: tensor([2]) },
      { x: tensor([3]), y: tensor([4]) },
    ]
    expect(halfReset(a, b, ['x'])).toEqual({ x: b.x, y: a.y })
    expect(() => halfReset({}, b, [])).toThrow('x: [1] after training and nothing before')
  })
})

describe('telly', () => {
  it('trains the blocks from k on, the last norm and the head', () => {
    const found = names(telly({ k: 2 }))
    expect(found.filter((n) => !n.startsWith('blocks.2.'))).toEqual(['head', 'norm'])
    expect(found.filter((n) => n.startsWith('blocks.2.'))).toHaveLength(13)
    expect(names(telly({ k: 0 }))).toEqual(all.filter((n) => n !== 'embed'))
    expect(() => names(telly({ k: 4 }))).toThrow('telly: k must be a whole number from 0 to 3')
    const tied = tinyLlama(rng(0), { tied: true })
    expect(telly({ k: 2 })(tied, sitesOf(tied), rng(0))).toEqual(['norm'])
  })

  it('gives the gradients that full tuning has there', () => {
    const [top, whole] = [names(telly({ k: 1 })), all].map((train) =>
      attach(network, [], rng(0), { train: [...train] }),
    )
    const [a, b] = [backprop(lossOf(top!), top!.params), backprop(lossOf(whole!), whole!.params)]
    for (const n of Object.keys(a.grads)) expect([...a.grads[n]!.dataSync()]).toEqual([...b.grads[n]!.dataSync()])
  })

  it('compares representations by the correlation of their similarities', async () => {
    const h = rng(1).normal([6, 4])
    expect(await similarityOf(h, h)).toBeCloseTo(1, 5)
    // cosine similarities see neither length nor rotation
    const turned = tensor2d(
      Array.from(h.dataSync(), (v, i) => (i % 4 === 0 ? -3 : 3) * v),
      [6, 4],
    )
    expect(await similarityOf(h, turned)).toBeCloseTo(1, 5)
    // by hand: cosines [1, 0, 1] and [1, 1, 1] over pairs (0,0), (0,1), (1,1) of the first and [1, .6, 1] of the second
    const [a, b] = [tensor2d([1, 0, 0, 2], [2, 2]), tensor2d([1, 0, 0.6, 0.8], [2, 2])]
    expect(await similarityOf(a, b)).toBeCloseTo(1, 5)
    expect(await similarityOf(rng(2).normal([8, 3]), rng(3).normal([8, 3]))).toBeLessThan(0.9)
    expect(tellyK([0.99, 0.95, 0.8, 0.95])).toBe(2)
    expect(tellyK([0.99])).toBe(1)
  })

  it('averages over the tokens that the mask shows', () => {
    const h = tensor([1, 2, 3, 4, 50, 60], [1, 3, 2])
    expect([...tokenMean(h, tensor2d([1, 1, 0], [1, 3])).dataSync()]).toEqual([2, 3])
  })
})

describe('apetTensors', () => {
  it('takes whole tensors in a random order as long as they fit', () => {
    for (const budget of [16, 300, 2000]) {
      const found = names(apetTensors({ budget }), budget)
      const size = countParams(attach(network, [], rng(0), { train: [...found] }).params)
      expect(size).toBeLessThanOrEqual(budget)
      expect(size).toBeGreaterThan(0)
      expect(names(apetTensors({ budget }), budget)).toEqual(found)
    }
    expect(() => names(apetTensors({ budget: 7 }))).toThrow('a budget of 7 is less than any unit has (8)')
  })

  it('skips what does not fit and goes on', () => {
    for (let seed = 0; seed < 10; seed++)
      expect(drawUnits({ a: 9, b: 2, c: 3 }, 5, rng(seed)).sort()).toEqual(['b', 'c'])
  })
})
