import { attach } from '@weftjs/model'
import type { Codec, Params, Tensor, Tensor2D } from '@weftjs/spec'
import { add, cpu, gradients, mapParams, mul, rng, sum, tensor, tensor1d, tensor2d, wasm } from '@weftjs/tensor'
import { testAdapter, tinyLlama } from '@weftjs/testkit'
import { dense } from '@weftjs/weight'
import { beforeAll, describe, expect, it } from 'vitest'
import { affine, type LsqOptions, lsq } from '../src/index.ts'
import { trainable } from '../src/train/lsq.ts'
import { fixture, floats } from './fixtures.ts'

const suite = (options: LsqOptions) => ({
  startsAsIdentity: false,
  count: (site: Parameters<typeof trainable>[0]) => trainable(site, options),
})
testAdapter(lsq({ bits: 4 }), suite({ bits: 4 }))
testAdapter(lsq({ bits: 3, group: 8 }), { ...suite({ bits: 3, group: 8 }), backend: wasm })

/** the matrix that these make, as an adapter's weight */
const weightOf = (options: LsqOptions, w: Tensor2D, s: Tensor) => {
  const base = dense(w)
  return lsq(options).weight!(base, { w, s }, { site: { name: 'here', weight: base } } as never)
}
const near = (found: Tensor, wanted: ArrayLike<number>, off = 1e-5): void => {
  const values = found.dataSync()
  expect(values.length).toBe(wanted.length)
  values.forEach((v, i) => {
    expect(Math.abs(v - wanted[i]!), `number ${i}`).toBeLessThanOrEqual(off)
  })
}

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('steps that are learned, on %s', (_, start) => {
  beforeAll(async () => {
    await start()
  })

  it('the gradients that the equations give by hand', () => {
    // w/s = 0.6, 1.8, −2.8, −1.2 between −2 and 1: two within, two beyond an end
    const [w, s] = [tensor2d([[0.3, 0.9, -1.4, -0.6]]), tensor1d([0.5])]
    const g = tensor2d([[1, 2, 3, 5]])
    near(weightOf({ bits: 2 }, w, s).dense(), [0.5, 0.5, -1, -0.5])
    const along = (scaled: boolean) =>
      gradients(() => sum(mul(weightOf({ bits: 2, scaled }, w, s).dense(), g)), [w, s]).grads
    const [gw, gs] = along(false)
    near(gw!, [1, 0, 0, 5])
    near(gs!, [0.4 * 1 + 1 * 2 - 2 * 3 + 0.2 * 5]) // round(u) − u, 1, −2, round(u) − u
    near(along(true)[1]!, [-2.6 / Math.sqrt(4 * 1)]) // N = 4, Q = 1
  })

  it.each(['2.4', '3.16', '4.8', '8.16'])('numbers and gradients of torch, bits.group = %s', async (name) => {
    const [bits, group] = name.split('.').map(Number) as [2, number]
    const file = await fixture('lsq')
    const [w, s, g] = [
      await floats<Tensor2D>(file, `${name}.w`),
      await floats(file, `${name}.s`),
      await floats(file, `${name}.g`),
    ]
    near(weightOf({ bits, group }, w, s).dense(), await file.floats(`${name}.out`))
    const [gw, gs] = gradients(() => sum(mul(weightOf({ bits, group }, w, s).dense(), g)), [w, s]).grads
    near(gw!, await file.floats(`${name}.gw`))
    near(gs!, await file.floats(`${name}.gs`))
    // within a product: of x·ŵᵀ·1 with x = 1 at one input the gradient is a column of ones
    const x = rng(1).normal([3, 16])
    const y = rng(2).normal([3, 6])
    const through = gradients(() => sum(mul(weightOf({ bits, group }, w, s).apply(x), y)), [w, s, x]).grads
    const whole = gradients(() => sum(mul(dense(weightOf({ bits, group }, w, s).dense()).apply(x), y)), [w, s, x]).grads
    whole.forEach((v, i) => {
      near(through[i]!, v!.dataSync(), 2e-5)
    })
    const started = lsq({ bits, group }).init({ name: 'here', weight: dense(w) } as never, {} as never)!
    near(started.state.s!, await file.floats(`${name}.start`))
  })

  it('folded, it is even codes by the steps that were learned, and gives the logits that it gave', () => {
    const options = { bits: 3, group: 8 } as const
    const at = 'blocks.*.{attn,mlp}.{q,v,down}'
    const tuned = attach(tinyLlama(rng(1)), [{ adapter: lsq(options), at }], rng(0))
    const params: Params = mapParams(tuned.params, (p, n) =>
      n.endsWith('.s') ? mul(p, 0.7) : add(p, rng(3).fork(n).normal(p.shape, 0.1)),
    )
    const folded = tuned.fold(params)
    const like = affine({ ...options, symmetric: true }) as Codec
    for (const { site } of tuned.bound) {
      const { codec, parts } = folded.weights[site.name]!
      expect([codec!.name, codec!.options]).toEqual([like.name, like.options])
      near(parts['scale']!, params[`${site.name}.lsq.s`]!.dataSync(), 0)
    }
    const ids = tensor([1, 2, 3, 4, 5, 6], [1, 6], 'int32')
    const wanted = tuned.forward(params, { ids }).logits.dataSync()
    near(attach(folded, [], rng(0)).forward({}, { ids }).logits, wanted, 1e-5)
  })

  it('a step that has fallen to nothing holds zeros, and its gradient can bring it back', () => {
    const [w, s] = [tensor2d([[0.3, -0.9]]), tensor1d([-0.1])]
    near(weightOf({ bits: 2 }, w, s).dense(), [0, 0], 1e-10)
    const [, gs] = gradients(() => sum(mul(weightOf({ bits: 2 }, w, s).dense(), tensor2d([[-1, 1]]))), [w, s]).grads
    expect(gs!.dataSync()[0]).toBeLessThan(0) // downhill is up
  })

  it('what cannot be is said', () => {
    expect(() => lsq({ bits: 5 as 4 })).toThrow('bits must be 2, 3, 4 or 8, found 5')
    expect(() => attach(tinyLlama(rng(1)), [{ adapter: lsq({ group: 5 }), at: '**.q' }], rng(0))).toThrow(
      /blocks.0.attn.q: lsq: rows of 16 numbers are no multiple of the group of 5/,
    )
  })
})
