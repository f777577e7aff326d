import { attach } from '@weftjs/model'
import { cpu, rng, sub, tensor } from '@weftjs/tensor'
import { tinyLlama, toyCodec } from '@weftjs/testkit'
import { packed } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { loftq } from '../src/loftq.ts'
import { lora } from '../src/lora.ts'
import { distance } from './fixture.ts'

await cpu()
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const at = 'blocks.*.*.{q,k,v,o,gate,up,down}'
const net = tinyLlama(rng(0))
const small = tinyLlama(rng(0), { keep: (w) => packed(toyCodec(), w) })
const logits = async (adapter: ReturnType<typeof lora>, base = small): Promise<ArrayLike<number>> => {
  const tuned = attach(base, [{ adapter, at }], rng(1))
  return tuned.forward(tuned.params, { ids }).logits.data()
}
const rms = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Math.sqrt(Array.from(a, (v, i) => (v - b[i]!) ** 2).reduce((x, y) => x + y) / a.length)

describe('loftq', () => {
  it('begins nearer to the network than packing leaves it, nearer still by rounds', async () => {
    const want = await attach(net, [], rng(0)).forward({}, { ids }).logits.data()
    const qlora = rms(await logits(lora({ rank: 4 })), want)
    const one = rms(await logits(loftq({ rank: 4, alpha: 8 }, net)), want)
    expect(one).toBeLessThan(qlora)
    const lost = (rounds: number): number =>
      attach(small, [{ adapter: loftq({ rank: 4, rounds }, net), at }], rng(1)).bound.reduce((total, b) => {
        const { state, base } = b.adapter.init(b.site, { rng: rng(2) } as never)!
        const now = b.adapter.weight!(base!, state, {
          ...{
            site: b.site,
            training: false,
            inputs: {},
            inner: [],
            shared: {},
            scratch: new Map(),
            penalty: () => {},
          },
        })
        return total + Math.hypot(...sub(net.weights[b.site.name]!.dense(), now.dense()).dataSync()) ** 2
      }, 0)
    expect(lost(5)).toBeLessThan(lost(1))
  })

  it('keeps the format of the base, which after one round is the packed base itself', () => {
    const { bound } = attach(small, [{ adapter: loftq({ rank: 4 }, net), at }], rng(1))
    for (const { base, site } of bound) {
      expect(base!.format).toBe(site.weight!.format)
      expect(distance(base!.dense().dataSync(), site.weight!.dense().dataSync())).toBe(0)
    }
  })

  it('begins as LoRA where nothing was lost', async () => {
    for (const base of [net, small]) {
      const [a, b] = [loftq({ rank: 4, rounds: 3 }), lora({ rank: 4 })].map((adapter) =>
        attach(base, [{ adapter, at, name: 'x' }], rng(1)),
      )
      for (const name of Object.keys(b!.params))
        expect([...a!.params[name]!.dataSync()]).toEqual([...b!.params[name]!.dataSync()])
      expect(a!.bound.every((x) => !x.base)).toBe(true)
    }
  })

  it('says what is wrong', () => {
    const other = tinyLlama(rng(0), { hidden: 20 })
    expect(() => attach(small, [{ adapter: loftq({ rank: 4 }, other), at: 'blocks.0.mlp.up' }], rng(0))).toThrow(
      'blocks.0.mlp.up: the original is [20,16], the base [24,16]; give its own',
    )
    expect(() => loftq({ rounds: 0 })).toThrow('loftq: rounds must be a whole number of at least 1, found 0')
  })
})
