import { attach } from '@weftjs/model'
import { add, rng, tensor, tensor1d, tensor2d } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { lora } from '../src/lora.ts'
import { type ParallelOptions, parallel } from '../src/parallel.ts'
import { context, gap, logits, moved, network, tune, values } from './beside.ts'

describe('parallel', () => {
  it('is the model itself at first, and where it is turned off', async () => {
    const plain = logits(attach(network, [], rng(0)))
    const tuned = tune(parallel({ width: 5, bias: true }), ['**.{q,v}', 'blocks.*.{attn,mlp}', 'blocks.1'])
    expect(await gap(logits(tuned), plain)).toBe(0)
    expect(await gap(logits(tuned, moved(tuned)), plain)).toBeGreaterThan(0.01)
    expect(await gap(logits(tuned, moved(tuned), { adapters: [] }), plain)).toBe(0)
  })

  it('is M(x) + s·(U·ReLU(D·x + d) + u), by numbers worked out by hand', async () => {
    const state = {
      ...{
        down: tensor2d([
          [1, 0],
          [0, 1],
        ]),
        up: tensor2d([
          [2, 1],
          [-1, 1],
        ]),
      },
      ...{ downBias: tensor1d([0.5, 1]), upBias: tensor1d([10, 20]) },
    }
    const adapter = parallel({ scale: 4, activation: 'relu', bias: true })
    const y = adapter.around!((x) => add(x, 1), tensor([0.5, -3], [1, 2]), state as never, context())
    // D·x + d = (1, −2) → (1, 0); U → (2, −1), u → (12, 19), s → (48, 76); M(x) = (1.5, −2)
    expect(await values(y)).toEqual([49.5, 74])
  })

  it('without an activation is LoRA of rank w and α = s·w, and folds as LoRA does', async () => {
    const at = '**.{q,v,down}'
    const [one, other] = [
      tune(parallel({ width: 3, activation: 'identity', scale: 2 }), at),
      tune(lora({ rank: 3, alpha: 6 }), at),
    ]
    const params = moved(one, 0.2)
    const named = { down: 'a', up: 'b' } as const
    const same = Object.fromEntries(
      Object.entries(params).map(([n, t]) => [
        n.replace(/parallel\.(down|up)$/, (_, k: 'down' | 'up') => `lora.${named[k]}`),
        t,
      ]),
    )
    expect(Object.keys(same).sort()).toEqual(Object.keys(other.params).sort())
    expect(await gap(logits(one, params), logits(other, same))).toBeLessThan(1e-6)
    expect(await gap(logits(attach(one.fold(params), [], rng(0)), {}), logits(other, same))).toBeLessThan(1e-5)
  })

  it('drops hidden units only while training', async () => {
    const tuned = tune(parallel({ width: 8, dropout: 0.5, activation: 'relu' }), 'blocks.*.mlp')
    const params = moved(tuned, 0.5)
    const noisy = (seed: number) => logits(tuned, params, { training: true, rng: rng(seed) })
    expect(await gap(noisy(1), noisy(1))).toBe(0)
    expect(await gap(noisy(1), noisy(2))).toBeGreaterThan(1e-3)
    expect(await gap(logits(tuned, params), logits(tuned, params, { training: true }))).toBe(0)
  })

  it.each<[ParallelOptions, string, string]>([
    [{ activation: 'swish' as never }, 'blocks.0.mlp', "parallel: there is no activation 'swish'"],
    [{ width: 2.5 }, 'blocks.0.mlp', 'blocks.0.mlp: width must be a whole number of at least 1, found 2.5'],
    [{ width: 2 }, 'embed', 'embed: token ids go in here'],
    [{ width: 2 }, 'blocks.0.mpl', 'no site matches "blocks.0.mpl"; nearest are'],
  ])('refuses %o at %s', (options, at, message) => {
    expect(() => tune(parallel(options), at)).toThrow(message)
  })
})
