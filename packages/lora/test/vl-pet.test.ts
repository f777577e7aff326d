import { attach } from '@weftjs/model'
import { add, rng, tensor, tensor1d, tensor2d, zeros } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { parallel } from '../src/parallel.ts'
import { trainable, type VlPetOptions, vlPet } from '../src/vl-pet.ts'
import { context, expectNear, gap, logits, moved, network, site, tune, values } from './beside.ts'
import { model } from './fixture.ts'

const at = 'blocks.*.{attn,mlp}'
const sigma = (v: number): number => 1 / (1 + Math.exp(-v))
/** Δ(h) = (h₁ + 1, 0): D = (1 0), U = (1 0)ᵀ, u = (1, 0) */
const delta = {
  ...{ down: tensor2d([[1, 0]]), downBias: tensor1d([0]), up: tensor2d([[1], [0]]), upBias: tensor1d([1, 0]) },
}
const x = tensor([1, 2, 3, 4], [1, 2, 2])
/** H(x) = x + 1, so that H + Δ is (5, 3) at the first token and (9, 5) at the second */
const run = (options: VlPetOptions, gate: object, inputs = {}): Promise<number[]> =>
  values(
    vlPet({ activation: 'identity', ...options }).around!(
      (v) => add(v, 1),
      x,
      { ...delta, ...gate } as never,
      context({ inputs }),
    ),
  )

describe('vl-pet', () => {
  it('gates H + Δ, not Δ alone, at each granularity: by numbers worked out by hand', async () => {
    const w = { w: tensor2d([[1, -1]]), wBias: tensor1d([0.5]) }
    // w·(X + H + Δ) + ½: (6, 5) and (12, 9)
    const middle = [1.5, 3.5].map(sigma) as [number, number]
    expectNear(await run({ granularity: 'middleX' }, w), [5 * middle[0], 3 * middle[0], 9 * middle[1], 5 * middle[1]])
    expectNear(await run({ granularity: 'middleY', scale: 2 }, { z: tensor1d([0.5, -1]) }), [15, 0, 27, 0])
    const large = {
      ...{ g1: tensor2d([[1, 0]]), g1Bias: tensor1d([0]), g2: tensor2d([[1], [-1]]), g2Bias: tensor1d([0, 1]) },
    }
    // W₂·W₁·X + b: (1, 0) and (3, −2)
    expectNear(await run({ granularity: 'large' }, large), [5 * sigma(1), 3 * sigma(0), 9 * sigma(3), 5 * sigma(-2)])
  })

  it('small has one gate for a text, from the tokens that are there', async () => {
    const w = { w: tensor2d([[1, 0, 0, -1]]), wBias: tensor1d([2]) }
    // w·[X; H + Δ] + 2: 1 − 3 + 2 = 0 and 3 − 5 + 2 = 0, so that ½ comes out; then with another bias only on the first token
    expectNear(await run({ granularity: 'small' }, w), [2.5, 1.5, 4.5, 2.5])
    const tilted = { w: tensor2d([[1, 0, 0, 0]]), wBias: tensor1d([0]) }
    const g = (sigma(1) + sigma(3)) / 2
    expectNear(await run({ granularity: 'small' }, tilted), [5 * g, 3 * g, 9 * g, 5 * g])
    const one = sigma(1)
    const mask = tensor([1, 0], [1, 2], 'int32')
    expectNear(await run({ granularity: 'small' }, tilted, { mask }), [5 * one, 3 * one, 9 * one, 5 * one])
  })

  it('is the model itself only where the gate is 1: middleY with z = 0', async () => {
    const plain = logits(attach(network, [], rng(0)))
    const tuned = tune(vlPet({ granularity: 'middleY', width: 4 }), at)
    const still = Object.fromEntries(
      Object.entries(tuned.params).map(([n, t]) => [n, n.endsWith('.z') ? zeros(t.shape) : t]),
    )
    expect(await gap(logits(tuned, still), plain)).toBe(0)
    for (const granularity of ['large', 'middleX'] as const)
      expect(await gap(logits(tune(vlPet({ granularity, width: 4, gateWidth: 3 }), at)), plain)).toBeGreaterThan(0.01)
  })

  it('at the values is a parallel adapter', async () => {
    const [one, other] = [
      tune(vlPet({ width: 3 }), '**.v'),
      tune(parallel({ width: 3, activation: 'gelu_tanh', bias: true }), '**.v'),
    ]
    const params = moved(one)
    const same = Object.fromEntries(Object.entries(params).map(([n, t]) => [n.replace('vl-pet', 'parallel'), t]))
    expect(await gap(logits(one, params), logits(other, same))).toBe(0)
  })

  it('small runs in an encoder, where padding changes nothing', async () => {
    const base = await model('bert')
    const tuned = tune(vlPet({ granularity: 'small', width: 3 }), at, base)
    const params = moved(tuned)
    const short = tuned.forward(params, { ids: tensor([5, 6, 7], [1, 3], 'int32') }).logits
    const padded = tuned.forward(params, {
      ids: tensor([5, 6, 7, 0, 0], [1, 5], 'int32'),
      mask: tensor([1, 1, 1, 0, 0], [1, 5], 'int32'),
    }).logits
    const n = short.size
    expectNear((await values(padded)).slice(0, n), await values(short), 1e-4)
    expect(() => tune(vlPet({ granularity: 'small' }), at)).toThrow(
      "blocks.0.attn: 'small' takes one gate from the whole text",
    )
  })

  it('trains as many numbers as the paper counts', () => {
    const [d, own] = [768, 2 * 768 * 96 + 96 + 768]
    const of = (granularity: NonNullable<VlPetOptions['granularity']>) =>
      trainable(site({ in: d, out: d }), { granularity }) - own
    expect([of('large'), of('middleX'), of('middleY'), of('small')]).toEqual([2 * d * 96 + 96 + d, d + 1, d, 2 * d + 1])
  })

  it.each<[VlPetOptions, string, string]>([
    [{ granularity: 'medium' as never }, 'blocks.0.mlp', 'vl-pet: granularity is large, middleX, middleY or small'],
    [{ width: 0 }, 'blocks.0.mlp', 'blocks.0.mlp: width must be a whole number'],
    [{ scale: Number.NaN }, 'blocks.0.mlp', 'vl-pet: scale must be a number'],
    [{}, 'blocks.0', 'blocks.0 (block): adapters stand at'],
  ])('refuses %o at %s', (options, where, message) => {
    expect(() => tune(vlPet(options), where)).toThrow(message)
  })
})
