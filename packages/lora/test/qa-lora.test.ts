import { attach } from '@weftjs/model'
import { affine, bitsPerWeight, hqq, int4, quantize } from '@weftjs/quant'
import type { Codec } from '@weftjs/spec'
import { add, cpu, mapParams, rng, tensor, wasm } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { lora, peftTensors, qaLora } from '../src/index.ts'
import { distance } from './fixture.ts'
import { apart, network, one, plus, times } from './one.ts'

await cpu()
const at = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'
const ids = () => tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')

describe('qa-lora', () => {
  it('adds the same number to all inputs of a group', () => {
    const { state, w, after } = one(qaLora({ rank: 2, alpha: 6, group: 4 }))
    const ba = times(state('b'), state('a')) // [24, 4]
    const delta = w.map((row, i) => row.map((_, j) => ba[i]![Math.floor(j / 4)]!))
    expect(apart(after, plus(w, delta, 3))).toBeLessThan(1e-5)
  })

  it.each([
    ['int4', int4({ group: 8, floatZero: true }) as Codec],
    ['two bits in groups of four', affine({ bits: 2, group: 4, floatZero: true }) as Codec],
    ['hqq without its solver', hqq({ group: 8, optimize: false, roundZero: false, dtype: 'F32' }) as Codec],
  ])('%s: folded, it has the codes that it had, and other zero points', async (_, codec) => {
    for (const start of [cpu, wasm]) {
      await start()
      const base = await quantize(tinyLlama(rng(1)), codec)
      const tuned = attach(base, [{ adapter: qaLora({ rank: 3, group: 8, alpha: 5 }), at }], rng(2))
      const params = mapParams(tuned.params, (p, n) => add(p, rng(3).fork(n).normal(p.shape, 0.3)))
      const folded = tuned.fold(params)
      for (const { site } of tuned.bound) {
        const [before, after] = [base.weights[site.name]!.parts, folded.weights[site.name]!.parts]
        expect(after['q']!.dataSync(), site.name).toEqual(before['q']!.dataSync())
        const scale = before['scale']!.dataSync()
        after['scale']!.dataSync().forEach((s, i) => {
          expect(Math.abs(s / scale[i]! - 1), site.name).toBeLessThan(1e-5)
        })
        expect(distance(after['zero']!.dataSync(), before['zero']!.dataSync()), site.name).toBeGreaterThan(0.1)
      }
      const logits = tuned.forward(params, { ids: ids() }).logits.dataSync()
      const packed = attach(folded, [], rng(0)).forward({}, { ids: ids() }).logits.dataSync()
      const whole = attach(base, [], rng(0)).forward({}, { ids: ids() }).logits.dataSync()
      expect(distance(logits, packed)).toBeLessThan(1e-4)
      expect(distance(logits, whole)).toBeGreaterThan(0.1)
    }
    await cpu()
  })

  it("a LoRA's fold changes codes, and so does this one where groups are finer than the base's", async () => {
    const base = await quantize(tinyLlama(rng(1)), int4({ group: 8, floatZero: true }))
    for (const adapter of [lora({ rank: 3 }), qaLora({ rank: 3, group: 4 })]) {
      const tuned = attach(base, [{ adapter, at }], rng(2))
      const folded = tuned.fold(mapParams(tuned.params, (p, n) => add(p, rng(3).fork(n).normal(p.shape, 0.3))))
      const same = tuned.bound.filter(
        ({ site: { name } }) =>
          distance(folded.weights[name]!.parts['q']!.dataSync(), base.weights[name]!.parts['q']!.dataSync()) === 0,
      )
      expect(same).toEqual([])
    }
  })

  it('takes 64 bits a group beside the codes', () => {
    expect(bitsPerWeight(int4({ group: 32, floatZero: true }), [64, 64])).toBe(6)
  })

  it("keeps A as PEFT has it, which reads the mean times the groups' count", () => {
    // 16 inputs in groups of 8: PEFT's A is 8/2 of ours
    const tuned = attach(network, [{ adapter: qaLora({ rank: 2, group: 8 }), at: 'blocks.0.attn.q' }], rng(1))
    const a = peftTensors(tuned).find((t) => t.keys[0].endsWith('q_proj.lora_A.weight'))!
    const ours = tuned.params['blocks.0.attn.q.qa-lora.a']!
    const theirs = a.layout!.write(ours).dataSync()
    expect(
      distance(
        theirs,
        Array.from(ours.dataSync(), (v) => 4 * v),
      ),
    ).toBe(0)
  })

  it('refuses groups that do not fit, and what is no group', () => {
    expect(() => attach(network, [{ adapter: qaLora({ rank: 2, group: 5 }), at: '**.q' }], rng(0))).toThrow(
      'blocks.0.attn.q: groups of 5 do not divide 16 inputs; take the group of the base, or narrow "at"',
    )
    expect(() => qaLora({ group: 0 })).toThrow('qa-lora: group must be a whole number of at least 1, found 0')
    expect(() => qaLora({ dropout: 1 })).toThrow('qa-lora: dropout must be in [0, 1), found 1')
  })
})
