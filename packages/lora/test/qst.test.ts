import { attach, nextToken } from '@weftjs/model'
import { backprop, countParams, memory, mul, rng, tensor, tidy, zeros } from '@weftjs/tensor'
import { tinyLlama, toyCodec } from '@weftjs/testkit'
import { packed } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { lora } from '../src/lora.ts'
import { type QstOptions, qst, trainable } from '../src/qst.ts'
import { expectSameText, gap, ids, logits, moved, network, site, tune, values } from './beside.ts'
import { model } from './fixture.ts'

const at = ['blocks.*', 'norm']
const small = { reduction: 2, rank: 3 } as const
const batch = { shape: [2, 5] as const, targets: Int32Array.from([2, 3, 4, 5, -100, 7, 8, 9, 10, -100]) }

describe('qst', () => {
  it('with α = 1 is the quantized model itself, and a first step moves α alone', async () => {
    const base = tinyLlama(rng(1), { keep: (w) => packed(toyCodec(), w) })
    const tuned = tune(qst(small), at, base)
    expect(await gap(logits(tuned), logits(attach(base, [], rng(0))))).toBe(0)
    const { grads } = backprop((p) => nextToken(tuned.run(p, { ids: ids() }), batch), tuned.params)
    for (const [name, g] of Object.entries(grads))
      expect(
        (await values(g)).some((v) => v !== 0),
        name,
      ).toBe(name === 'norm.qst.alpha')
  })

  it('lets no gradient into the model, which keeps nothing for the backward pass', async () => {
    const both = attach(
      network,
      [
        { adapter: lora({ rank: 2 }), at: 'blocks.0.attn.v' },
        { adapter: qst(small), at },
      ],
      rng(2),
    )
    // α = 0: the logits are the side network's alone
    const params = { ...moved(both), 'norm.qst.alpha': zeros([16]) }
    const { grads } = backprop((p) => nextToken(both.run(p, { ids: ids() }), batch), params)
    for (const [name, g] of Object.entries(grads)) {
      const zero = (await values(g)).every((v) => v === 0)
      expect(zero, name).toBe(name.includes('lora'))
    }
  })

  it('works as its equations say: α = 0 and a side network that only carries give the embedding, brought down and up', async () => {
    const tuned = tune(qst({ reduction: 2, down: 'mean' }), at)
    const still = Object.fromEntries(
      Object.entries(tuned.params).map(([n, t]) => [
        n,
        // no block adds anything; β = 1, so that only what came first is carried on
        /\.(o|down)$/.test(n)
          ? zeros(t.shape)
          : n.endsWith('.z')
            ? mul(t, 1000)
            : n.endsWith('alpha')
              ? zeros(t.shape)
              : t,
      ]),
    )
    const hidden = await values(tuned.run(still, { ids: ids() }).hidden)
    const embed = await values(network.weights['embed']!.dense())
    const wide = await values(tuned.params['norm.qst.wide']!)
    const want = [...(await ids().data())].flatMap((id) => {
      const row = embed.slice(16 * id, 16 * id + 16)
      const s = Array.from({ length: 8 }, (_, i) => (row[2 * i]! + row[2 * i + 1]!) / 2)
      const size = Math.sqrt(s.reduce((t, v) => t + v * v, 0) / 8 + 1e-6)
      return Array.from({ length: 16 }, (_, i) => s.reduce((t, v, j) => t + (wide[i * 8 + j]! * v) / size, 0))
    })
    hidden.forEach((v, i) => {
      expect(v).toBeCloseTo(want[i]!, 4)
    })
  })

  it('generates the same text with and without a cache: its own keys and values are kept, for each text of a batch', async () => {
    for (const options of [small, { reduction: 2, down: 'max' }] as const) {
      const tuned = tune(qst({ ...options, alpha: 0.3 }), at)
      await expectSameText(tuned, moved(tuned, 0.3))
    }
    // learned positions: nothing turns
    const base = await model('gpt2')
    const tuned = tune(qst({ reduction: 2, rank: 3, alpha: 0.3 }), at, base)
    const text = [1, 5, 9, 2]
    const whole = tuned.forward(moved(tuned), { ids: tensor(text, [1, 4], 'int32') }).logits
    expect((await values(whole)).every(Number.isFinite)).toBe(true)
  })

  it('texts that are packed into one row see only their own', async () => {
    const tuned = tune(qst({ ...small, alpha: 0.3 }), at)
    const params = moved(tuned)
    const alone = tuned.forward(params, { ids: tensor([4, 5, 6], [1, 3], 'int32') }).logits
    const together = tuned.forward(params, {
      ids: tensor([1, 2, 4, 5, 6], [1, 5], 'int32'),
      positions: tensor([0, 1, 0, 1, 2], [1, 5], 'int32'),
      segments: tensor([1, 1, 2, 2, 2], [1, 5], 'int32'),
    }).logits
    const [a, b] = [await values(alone), (await values(together)).slice(48)]
    a.forEach((v, i) => {
      expect(v).toBeCloseTo(b[i]!, 4)
    })
  })

  it('trains as many numbers as its formula says; pools have no way down to train', () => {
    const count = (options: QstOptions): number => countParams(tune(qst(options), at).params)
    const block = 2 * 8 + 2 * 64 + 2 * 4 * 8 + 3 * 12 * 8
    expect(count(small)).toBe(2 * (3 * (16 + 8) + 3 * 8 + block) + 2 * 16 + 8 + 16 * 8)
    expect(count(small) - count({ reduction: 2, down: 'mean' })).toBe(2 * (3 * 24 + 2 * 8))
    const big = site({ kind: 'norm', in: 4096, out: 4096 })
    expect(trainable(big)).toBe(2 * 4096 + 256 + 4096 * 256)
  })

  it('leaves nothing behind', () => {
    const tuned = tune(qst({ ...small, alpha: 0.5 }), at)
    const before = memory().numTensors
    for (let i = 0; i < 3; i++)
      tidy(() => void backprop((p) => nextToken(tuned.run(p, { ids: ids() }), batch), tuned.params))
    expect(memory().numTensors).toBe(before)
  })

  it.each<[QstOptions, string | string[], string]>([
    [
      { reduction: 8 },
      at,
      'blocks.0: width 16 in 4 heads and 24 hidden units over 8 leave heads of width 0.5, which must be whole and even',
    ],
    [{ reduction: 4 }, at, 'leave heads of width 1, which must be whole and even; choose another reduction'],
    [small, 'blocks.*', "blocks.0: the side network joins the model at its last norm; put qst at ['blocks.*', 'norm']"],
    [small, ['blocks.*.mlp', 'norm'], "blocks.0.mlp (mlp): a side network stands at 'blocks.*' and 'norm'"],
    [{ down: 'sum' as never }, at, "qst: down is low-rank, mean or max, found 'sum'"],
    [{ alpha: Number.NaN }, at, 'qst: alpha must be a number'],
  ])('refuses %o at %s', (options, where, message) => {
    expect(() => tune(qst(options), where)).toThrow(message)
  })

  it('does not run in blocks that are computed again', () => {
    const tuned = tune(qst(small), at)
    expect(() => logits(tuned, tuned.params, { recompute: true })).toThrow('turn recompute off')
  })
})
