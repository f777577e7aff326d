import { attach, calibrate } from '@weftjs/model'
import type { Batch, Seen, Tensor } from '@weftjs/spec'
import { cpu, eye, matMul, mul, rng, tensor, zeros } from '@weftjs/tensor'
import { svd, toMatrix } from '@weftjs/tensor/linalg'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { corda } from '../src/corda.ts'
import { loraGa } from '../src/lora-ga.ts'
import { pissa } from '../src/pissa.ts'
import { distance } from './fixture.ts'

await cpu()
const net = tinyLlama(rng(0))
const name = 'blocks.0.mlp.up'
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const seenAs = (t: Tensor): Record<string, Seen> => ({ [name]: { rows: 9, batches: 1, get: () => t } })
const batch: Batch = {
  shape: [2, 8],
  ids: Int32Array.from({ length: 16 }, (_, i) => (i * 7) % 24),
  targets: Int32Array.from({ length: 16 }, (_, i) => (i % 8 === 7 ? -100 : (i * 7 + 7) % 24)),
  positions: Int32Array.from({ length: 16 }, (_, i) => i % 8),
  segments: new Int32Array(16).fill(1),
}

describe('corda', () => {
  const product = async (adapter: ReturnType<typeof corda>, seen = {}): Promise<ArrayLike<number>> => {
    const { params, bound } = attach(net, [{ adapter, at: name }], rng(1), { seen })
    return mul(matMul(params[`${bound[0]!.prefix}.b`]!, params[`${bound[0]!.prefix}.a`]!), 2).data()
  }
  it('is PiSSA where inputs are white', async () => {
    const white = seenAs(mul(eye(16), 3))
    const ours = await product(corda({ rank: 4, alpha: 8 }), white)
    expect(distance(ours, await product(pissa({ rank: 4, alpha: 8 }) as never))).toBeLessThan(1e-4)
  })
  it('takes the smallest components for kpm', async () => {
    const least = await product(corda({ rank: 3, alpha: 6, mode: 'kpm' }), seenAs(eye(16)))
    const { s } = svd(toMatrix(net.weights[name]!.dense()))
    const found = svd(toMatrix(tensor(Float32Array.from(least), [24, 16]) as never)).s
    expect(distance(found.slice(0, 3), s.slice(13))).toBeLessThan(1e-5)
  })
  it('begins as the network even where the covariance has no inverse', async () => {
    const want = await attach(net, [], rng(0)).forward({}, { ids }).logits.data()
    for (const damping of [0, 0.01]) {
      const x = rng(5).normal([3, 16]) // of rank 3
      const tuned = attach(net, [{ adapter: corda({ rank: 4, damping }), at: name }], rng(1), {
        seen: seenAs(matMul(x, x, true)),
      })
      expect(distance(await tuned.forward(tuned.params, { ids }).logits.data(), want)).toBeLessThan(5e-5)
    }
  })
  it('says what is wrong', async () => {
    const at = (options: object, seen: Record<string, Seen>) => () =>
      attach(net, [{ adapter: corda(options), at: name }], rng(0), { seen })
    expect(at({}, seenAs(zeros([16, 16])))).toThrow('blocks.0.mlp.up: its inputs are all zero; calibrate on other data')
    expect(at({}, seenAs(mul(eye(16), Number.NaN)))).toThrow('blocks.0.mlp.up: its inputs are not finite')
    expect(at({}, {})).toThrow(/blocks\.0\.mlp\.up: 'corda' starts from a calibration pass \(scaled\)/)
    expect(at({ rank: 17 }, seenAs(eye(16)))).toThrow('rank 17 exceeds min(24, 16)')
    expect(() => corda({ mode: 'both' as never })).toThrow("corda: mode must be 'ipm' or 'kpm', found 'both'")
    const other = await calibrate(net, [batch], { statistics: ['mean'], at: name })
    expect(at({}, other)).toThrow("blocks.0.mlp.up: the calibration pass gathered mean, not 'scaled'")
  })
})

describe('lora-ga', () => {
  it('begins as the network', async () => {
    const want = await attach(net, [], rng(0)).forward({}, { ids }).logits.data()
    const at = '**.{q,k,v,o,gate,up,down}'
    const seen = await calibrate(net, [batch], { statistics: ['gradient'], at })
    for (const scale of ['stable', 'authors', 'gd', 'unit', 'weight-svd'] as const) {
      const tuned = attach(net, [{ adapter: loraGa({ rank: 4, alpha: 8, scale }), at }], rng(1), { seen })
      expect(distance(await tuned.forward(tuned.params, { ids }).logits.data(), want)).toBeLessThan(3e-5)
    }
  })
  it("has unit directions of the gradient, times out^¼/√γ, at the authors' scale", async () => {
    const seen = await calibrate(net, [batch], { statistics: ['gradient'], at: name })
    const { params } = attach(net, [{ adapter: loraGa({ rank: 3, scale: 'authors', gamma: 9 }), at: name }], rng(1), {
      seen,
    })
    const [a, b] = ['a', 'b'].map((k) => params[`${name}.lora-ga.${k}`]!) as [Tensor, Tensor]
    const square = 24 ** 0.5 / 9
    const want = [square, 0, 0, 0, square, 0, 0, 0, square]
    expect(distance(await matMul(a, a, false, true).data(), want)).toBeLessThan(1e-5)
    expect(distance(await matMul(b, b, true).data(), want)).toBeLessThan(1e-5)
    // A spans the first three right vectors, B the next three left ones
    const { u, v } = svd(toMatrix(seen[name]!.get('gradient') as never))
    const among = (m: typeof u, t: Tensor, columns: number[]): number => {
      const values = t.dataSync()
      const [rows, r] = t.shape as [number, number]
      return columns.reduce((total, j) => {
        for (let k = 0; k < r; k++) {
          let dot = 0
          for (let i = 0; i < rows; i++) dot += values[i * r + k]! * m.data[i * m.cols + j]!
          total += dot * dot
        }
        return total
      }, 0)
    }
    expect(among(v, matMul(eye(16), a, false, true), [0, 1, 2])).toBeCloseTo(3 * square, 4)
    expect(among(u, b, [3, 4, 5])).toBeCloseTo(3 * square, 4)
  })
  it('says what is wrong', async () => {
    const at = 'blocks.0.attn.v'
    const seen = await calibrate(net, [batch], { statistics: ['gradient'], at })
    expect(() => attach(net, [{ adapter: loraGa({ rank: 5 }), at }], rng(0), { seen })).toThrow(
      'blocks.0.attn.v: LoRA-GA takes 2·rank = 10 directions, above min(8, 16); lower rank or narrow "at"',
    )
    const flat = { [name]: { rows: 1, batches: 1, get: () => zeros([24, 16]) } }
    expect(() => attach(net, [{ adapter: loraGa({ rank: 2 }), at: name }], rng(0), { seen: flat })).toThrow(
      'the gradient is zero',
    )
    expect(() => loraGa({ gamma: 0 })).toThrow('lora-ga: gamma must be above 0, found 0')
    expect(() => attach(net, [{ adapter: loraGa({ rank: 2, scale: 'big' as never }), at }], rng(0), { seen })).toThrow(
      /lora-ga: scale must be one of stable/,
    )
  })
})
