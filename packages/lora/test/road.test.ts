import { attach } from '@weftjs/model'
import { ones, reshape, rng, stack, type Tensor, tensor, tile } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { road } from '../src/road.ts'
import { distance } from './fixture.ts'
import { apart, network, one, times, turn } from './one.ts'

const noise = (shape: number[], key: string): Tensor => rng(6).fork(key).normal(shape)

describe('road', () => {
  it('turns output i and i + group/2 of each group by their angle, and scales them', () => {
    const { params, w, after } = one(road({ group: 8 }))
    const [theta, alpha] = ['theta', 'alpha'].map((k) => params[`blocks.0.mlp.up.road.${k}`]!.dataSync()) as never as [
      Float32Array,
      Float32Array,
    ]
    const want = w.map((row) => row.map(() => 0))
    for (let g = 0; g < 3; g++)
      for (let i = 0; i < 4; i++) {
        const [p, q, n] = [8 * g + i, 8 * g + i + 4, 4 * g + i]
        const [c, s] = [alpha[n]! * Math.cos(theta[n]!), alpha[n]! * Math.sin(theta[n]!)]
        w[p]!.forEach((_, j) => {
          want[p]![j] = c * w[p]![j]! - s * w[q]![j]!
          want[q]![j] = s * w[p]![j]! + c * w[q]![j]!
        })
      }
    expect(apart(after, want)).toBeLessThan(1e-5)
  })

  it('variant 2 with equal pairs is variant 1; variant 4 with equal angles and scales is variant 2', () => {
    const first = one(road({ group: 8 }), { change: (_, k) => noise([12], k) })
    const twice = (t: Tensor): Tensor => reshape(tile(reshape(t, [3, 1, 4]), [1, 2, 1]), [24])
    const second = one(road({ group: 8, variant: 2 }), { change: (_, k) => twice(noise([12], k)) })
    expect(apart(second.after, first.after)).toBeLessThan(1e-6)
    const own = one(road({ group: 8, variant: 2 }), { change: (_, k) => noise([24], k) })
    const both = (t: Tensor): Tensor => reshape(stack([reshape(t, [3, 8]), reshape(t, [3, 8])], 1), [48])
    const fourth = one(road({ group: 8, variant: 4 }), { change: (_, k) => both(noise([24], k)) })
    expect(apart(fourth.after, own.after)).toBeLessThan(1e-6)
  })

  it('with α = 1 leaves the products of columns as they are', () => {
    const { w, after } = one(road({ group: 4 }), {
      change: (p, k) => (k === 'alpha' ? ones(p.shape) : noise(p.shape, k)),
    })
    expect(apart(times(turn(after), after), times(turn(w), w))).toBeLessThan(2e-5)
  })

  it('turns the bias with the weight, adapted and folded', async () => {
    const at = 'blocks.0.attn.q'
    const { tuned, params } = one(road({ group: 4 }), { at })
    const before = [...network.vectors[`${at}.bias`]!.dataSync()]
    const folded = tuned.fold(params)
    expect(distance(folded.vectors[`${at}.bias`]!.dataSync(), before)).toBeGreaterThan(1e-2)
    const ids = tensor([1, 2, 3, 4], [1, 4], 'int32')
    const [x, y] = [tuned.forward(params, { ids }).logits, attach(folded, [], rng(0)).forward({}, { ids }).logits]
    expect(distance(await x.data(), await y.data())).toBeLessThan(1e-4)
  })

  it.each([
    [{ variant: 3 as never }, 'road: variant must be 1, 2 or 4, found 3'],
    [{ group: 3 }, 'road: group must be even, found 3'],
    [{ group: 0 }, 'road: group must be a whole number of at least 2, found 0'],
  ])('refuses %o', (options, message) => {
    expect(() => road(options)).toThrow(message)
  })
  it('refuses an embedding, whose rows are no outputs', () => {
    expect(() => attach(network, [{ adapter: road({ group: 2 }), at: 'embed' }], rng(0))).toThrow(
      'embed: rows of [24,16] are looked up here',
    )
  })
  it('refuses groups that do not divide the outputs', () => {
    expect(() => attach(network, [{ adapter: road(), at: '**.up' }], rng(0))).toThrow(
      'blocks.0.mlp.up: 24 outputs are no whole number of groups of 64; lower "group" to a divisor',
    )
  })
})
