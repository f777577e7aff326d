import type { Params } from '@weftjs/spec'
import { add, cpu, mapParams, rng, type Tensor, tensor, tensor2d } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { adamw, sgd } from '../src/index.ts'
import { loraFa } from '../src/lora-fa.ts'
import { loraPlus } from '../src/lora-plus.ts'

await cpu()
const values = (t: Tensor | undefined): number[] => [...t!.dataSync()]
const params = (): Params => ({
  'blocks.0.attn.q.lora.a': rng(1).normal([2, 3]),
  'blocks.0.attn.q.lora.b': rng(2).normal([4, 2]),
  'blocks.0.attn.q.dora.m': rng(3).normal([4]),
  'embed.lora.a': rng(4).normal([2, 3]),
  'embed.lora.b': rng(5).normal([5, 2]),
  'blocks.0.norm1': rng(6).normal([3]),
})
const grads = (): Params => mapParams(params(), (p) => add(p, 0.5))

describe('loraPlus', () => {
  it('steps by plain rates times those of the groups', () => {
    const tx = loraPlus({ lr: 0.1, ratio: 4, embeddingLr: 0.01 }, ({ lr }) => sgd({ lr: lr as number }))
    const [updates] = tx.update(grads(), tx.init(params()), params())
    const by: Record<string, number> = {
      'blocks.0.attn.q.lora.a': 0.1,
      'blocks.0.attn.q.lora.b': 0.4,
      'blocks.0.attn.q.dora.m': 0.4,
      'embed.lora.a': 0.01,
      'embed.lora.b': 0.01,
      'blocks.0.norm1': 0.4,
    }
    expect(Object.keys(updates).sort()).toEqual(Object.keys(by).sort())
    for (const [name, g] of Object.entries(grads()))
      for (const [i, v] of values(g).entries()) expect(values(updates[name])[i]).toBeCloseTo(-by[name]! * v, 5)
  })

  it('is AdamW where the ratio is 1, decay on all but vectors, and follows a schedule', () => {
    const lr = (step: number): number => 0.1 / (step + 1)
    const one = loraPlus({ lr, ratio: 1, embeddingLr: lr, weightDecay: 0.1 })
    const plain = adamw({ lr, weightDecay: 0.1, decays: (n) => !/norm|\.m$/.test(n) })
    let [s1, s2]: [unknown, unknown] = [one.init(params()), plain.init(params())]
    for (let i = 0; i < 3; i++) {
      const [u1, n1] = one.update(grads(), s1, params())
      const [u2, n2] = plain.update(grads(), s2 as never, params())
      for (const name of Object.keys(u2)) expect(values(u1[name])).toEqual(values(u2[name]))
      ;[s1, s2] = [n1, n2]
    }
  })

  it('says what is wrong', () =>
    expect(() => loraPlus({ ratio: 0 })).toThrow('loraPlus: ratio must be above 0, found 0'))
})

describe('loraFa', () => {
  it('leaves A, and turns the gradient of B by (A·Aᵀ)⁻¹/s²', () => {
    const own: Params = {
      'x.a': tensor2d([1, 1, 0, 0, 2, 0], [2, 3]),
      'x.b': tensor2d([0, 0], [1, 2]),
      'y.norm': tensor([1]),
    }
    const g: Params = {
      'x.a': tensor2d([9, 9, 9, 9, 9, 9], [2, 3]),
      'x.b': tensor2d([1, 2], [1, 2]),
      'y.norm': tensor([3]),
    }
    const tx = loraFa({ factor: 2 }, sgd({ lr: 1 }))
    const [updates] = tx.update(g, tx.init(own), own)
    expect(values(updates['x.a'])).toEqual([0, 0, 0, 0, 0, 0])
    // A·Aᵀ = [[2, 2], [2, 4]], its inverse [[1, -½], [-½, ½]]; [1, 2]·that = [0, ½], over 4
    expect(values(updates['x.b'])[0]).toBeCloseTo(0, 4)
    expect(values(updates['x.b'])[1]).toBeCloseTo(-0.125, 4)
    expect(values(updates['y.norm'])).toEqual([-3])
  })

  it('makes the step on B·A that is nearest to the step of the whole weight', () => {
    const [a, g] = [rng(1).normal([2, 5]), rng(2).normal([4, 5])]
    const [A, G] = [values(a), values(g)]
    // the gradient of B is s·G·Aᵀ; then s·ΔB·A must be G projected on the rows of A: (G − s·ΔB·A)·Aᵀ = 0
    const s = 0.5
    const gb = Array.from({ length: 8 }, (_, i) => {
      let sum = 0
      for (let k = 0; k < 5; k++) sum += G[Math.floor(i / 2) * 5 + k]! * A[(i % 2) * 5 + k]!
      return s * sum
    })
    const own: Params = { 'x.a': a, 'x.b': rng(3).normal([4, 2]) }
    const tx = loraFa({ factor: s }, sgd({ lr: 1 }))
    const [updates] = tx.update({ 'x.a': a, 'x.b': tensor2d(gb, [4, 2]) }, tx.init(own), own)
    const d = values(updates['x.b']).map((v) => -v)
    for (let i = 0; i < 4; i++)
      for (let j = 0; j < 2; j++) {
        let left = 0
        for (let k = 0; k < 5; k++)
          left += (G[i * 5 + k]! - s * (d[i * 2]! * A[k]! + d[i * 2 + 1]! * A[5 + k]!)) * A[j * 5 + k]!
        expect(left).toBeCloseTo(0, 3)
      }
  })

  it('says what is wrong', () =>
    expect(() => loraFa({ factor: 0 }).init(params())).toThrow(
      'loraFa: factor of blocks.0.attn.q.lora.b must be above 0, found 0',
    ))
})
