import { attach, calibrate, sitesOf, type Tuned } from '@weftjs/model'
import type { Adapter, Batch, Params, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { abs, add, cpu, mapParams, matMul, max, mul, rng, sqrt, square, sub, sum, tensor } from '@weftjs/tensor'
import { tinyLlama, toyCodec } from '@weftjs/testkit'
import { dense, packed } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { corda } from '../src/corda.ts'
import { dora } from '../src/dora.ts'
import { eva } from '../src/eva.ts'
import {
  asPlainLora,
  fromPeft,
  loadPeft,
  onOwnBase,
  peftConfig,
  peftConfigOf,
  readPeftConfig,
  readyLora,
} from '../src/index.ts'
import { kasa } from '../src/kasa.ts'
import { loftq } from '../src/loftq.ts'
import { loraGa } from '../src/lora-ga.ts'
import { olora } from '../src/olora.ts'
import { pissa } from '../src/pissa.ts'
import { rslora } from '../src/rslora.ts'
import { distance, model, peftFolder, saved } from './fixture.ts'

await cpu()
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const network = await model('llama3')
const at = 'blocks.*.{attn,mlp}.{q,k,down}'
const T = 60
const batch: Batch = {
  shape: [1, T],
  ids: Int32Array.from({ length: T }, (_, i) => 4 + ((i * 37) % 90)),
  targets: Int32Array.from({ length: T }, (_, i) => 4 + (((i + 1) * 37) % 90)),
  positions: Int32Array.from({ length: T }, (_, i) => i),
  segments: new Int32Array(T).fill(1),
}
const tuned = async (adapter: Adapter<any>, net = network): Promise<Tuned> =>
  attach(net, [{ adapter, at }], rng(1), {
    seen: adapter.calibrates ? await calibrate(net, [batch], { statistics: adapter.calibrates, at }) : {},
  })
const norm = (t: Tensor): Tensor => sqrt(sum(square(t)))
const moved = (params: Params): Params => mapParams(params, (p, n) => add(p, rng(3).fork(n).normal(p.shape, 0.02)))
const logits = async (t: Tuned, params: Params): Promise<ArrayLike<number>> => t.forward(params, { ids }).logits.data()

describe('a start that rewrites the base becomes a plain LoRA of the original', () => {
  it.each([
    ['pissa', pissa({ rank: 3, alpha: 6 })],
    ['pissa, randomized', pissa({ rank: 3, niter: 6 })],
    ['olora', olora({ rank: 3, rslora: true })],
    ['corda', corda({ rank: 3, mode: 'kpm' })],
    ['lora-ga', loraGa({ rank: 3 })],
  ] as const)('%s: of twice the rank, the same logits, through a PEFT file too', async (_, adapter) => {
    const trained = await tuned(adapter)
    const params = moved(trained.params)
    const want = await logits(trained, params)
    const deltas = await asPlainLora(trained, { params })
    expect(deltas.map((d) => d.a.rows)).toEqual(trained.bound.map(() => 6))
    const plain = attach(network, [readyLora(deltas)], rng(0))
    expect(distance(await logits(plain, plain.params), want)).toBeLessThan(1e-4)
    const folder = await saved(plain, plain.params, { base: 'llama3' })
    const config = await readPeftConfig(folder)
    expect([config['init_lora_weights'], config['r'], config['lora_alpha']]).toEqual([true, 6, 6])
    const start = fromPeft(config, network, sitesOf(network))
    const again = attach(start.network, start.attachments, rng(0))
    const { params: read } = await loadPeft(folder, again)
    expect(distance(await logits(again, read), want)).toBeLessThan(1e-4)
  })

  it('takes what leaves the base as it is, at its own rank', async () => {
    for (const adapter of [rslora({ rank: 3 }), eva({ rank: 3, rho: 1 })]) {
      const trained = await tuned(adapter)
      const params = moved(trained.params)
      const deltas = await asPlainLora(trained, { params })
      expect(new Set(deltas.map((d) => d.a.rows))).toEqual(new Set([3]))
      const plain = attach(network, [readyLora(deltas)], rng(0))
      expect(distance(await logits(plain, plain.params), await logits(trained, params))).toBeLessThan(1e-4)
    }
  })

  it('refuses what is no such thing, and a base that was rounded anew', async () => {
    await expect(asPlainLora(await tuned(kasa({ rank: 3 })))).rejects.toThrow(
      /blocks\.0\.attn\.q: 'kasa' is more than a base and a product of two factors/,
    )
    const small = tinyLlama(rng(0), { keep: (w) => packed(toyCodec(), w) })
    const own = attach(small, [{ adapter: pissa({ rank: 3 }), at: 'blocks.0.attn.q' }], rng(1))
    await expect(asPlainLora(own)).rejects.toThrow(
      /blocks\.0\.attn\.q: the base that 'pissa' began from is not the original less its factors .* fold the adapter/,
    )
    expect((await asPlainLora(own, { inexact: true }))[0]!.a.rows).toBe(6)
  })
})

describe('a start on a base that is packed', () => {
  const small = {
    ...network,
    weights: Object.fromEntries(
      Object.entries(network.weights).map(([n, w]) => [n, n === 'embed' ? w : packed(toyCodec(), w.dense())]),
    ),
  }
  const starts = [
    pissa({ rank: 3, alpha: 6 }),
    pissa({ rank: 3, rounds: 3 }),
    olora({ rank: 3 }),
    corda({ rank: 3 }),
    loraGa({ rank: 3 }),
    kasa({ rank: 3 }),
    loftq({ rank: 3, rounds: 2 }, network),
  ]
  it.each(starts.map((a) => [a.name, a] as const))(
    '%s: on its own base, through a PEFT file too',
    async (_, adapter) => {
      const trained = await tuned(adapter, small)
      const params = moved(trained.params)
      const want = await logits(trained, params)
      const own = await onOwnBase(trained, { params })
      expect(own.deltas.map((d) => d.a.rows)).toEqual(trained.bound.map(() => 3))
      for (const b of trained.bound) expect(own.network.weights[b.site.name]!.codec?.name).toBe('toy')
      expect(own.network.weights['blocks.0.attn.v']).toBe(small.weights['blocks.0.attn.v'])
      const plain = attach(own.network, [readyLora(own.deltas)], rng(0))
      const folder = await saved(plain, plain.params, { base: 'llama3' })
      const config = await readPeftConfig(folder)
      expect([config['init_lora_weights'], config['r']]).toEqual([true, 3])
      const start = fromPeft(config, own.network, sitesOf(own.network))
      const again = attach(start.network, start.attachments, rng(0))
      const { params: read } = await loadPeft(folder, again)
      expect(distance(await logits(again, read), want)).toBeLessThan(1e-4)
    },
  )

  it.each([
    ['pissa', pissa({ rank: 3, alpha: 6 })],
    ['olora', olora({ rank: 3 })],
  ] as const)(
    '%s: as a plain LoRA it leaves out what rounding the residual did, and that alone',
    async (_, adapter) => {
      const trained = await tuned(adapter, small)
      const params = moved(trained.params)
      const shares = new Map<string, number>()
      const left = (site: string, share: number): unknown => shares.set(site, share)
      const deltas = await asPlainLora(trained, { params, inexact: true, left })
      const plain = attach(small, [readyLora(deltas)], rng(0))
      const [now, then] = [trained.fold(params), plain.fold(plain.params)]
      expect(now.weights['blocks.0.attn.q']!.codec?.name).toBe('toy')
      const whole: Record<string, Weight> = {}
      for (const { site, base, prefix } of trained.bound) {
        const w = site.weight!.dense()
        const factor = adapter.name === 'pissa' ? 2 : 1
        const product = matMul(trained.params[`${prefix}.b`]!, trained.params[`${prefix}.a`]!)
        const residual = sub(w, mul(product, factor)) // [out, in]
        const error = sub(base!.dense(), residual)
        // a step of the toy format is a 127th of the largest number of a row
        const half = mul(max(abs(residual), 1, true), 0.5 / 127)
        expect(max(sub(abs(error), half)).dataSync()[0]).toBeLessThan(1e-6)
        expect(shares.get(site.name)).toBeCloseTo(norm(error).dataSync()[0]! / norm(w).dataSync()[0]!, 5)
        whole[site.name] = dense(add(w, error) as Tensor2D)
      }
      expect(Object.keys(then.weights)).toEqual(Object.keys(now.weights))
      // with that rounding put back it is what was trained
      const back = attach({ ...small, weights: { ...small.weights, ...whole } }, [readyLora(deltas)], rng(0))
      const want = await logits(trained, params)
      expect(distance(await logits(back, back.params), want)).toBeLessThan(1e-4)
      expect(distance(await logits(plain, plain.params), want)).toBeGreaterThan(1e-3)
    },
  )

  it('keeps what trains whole, and refuses what is no product of two factors', async () => {
    const at = 'blocks.0.attn.q'
    const one = attach(small, [{ adapter: pissa({ rank: 3 }), at }], rng(1), { train: 'norm' })
    const params = moved(one.params)
    const own = await onOwnBase(one, { params })
    expect(own.network.vectors['norm']).toBe(params['norm'])
    const plain = attach(own.network, [readyLora(own.deltas)], rng(0))
    expect(distance(await logits(plain, plain.params), await logits(one, params))).toBeLessThan(1e-4)
    const other = attach(small, [{ adapter: dora({ rank: 3 }), at }], rng(1))
    await expect(onOwnBase(other)).rejects.toThrow(/blocks\.0\.attn\.q: 'dora' is more than a base and a product/)
  })
})

describe('what a PEFT file cannot say is refused', () => {
  it.each([
    [
      'pissa-niter',
      /init_lora_weights is "pissa_niter_4": training began from a base of its own, which a randomized SVD made.*path_initial_model/,
    ],
    ['corda', /init_lora_weights is "corda": .*which was found from data/],
    ['lora-ga', /init_lora_weights is "lora_ga": .*which was found from gradients/],
  ])('reading %s', async (name, says) => {
    await expect(readPeftConfig(peftFolder(`left-out/${name}`))).rejects.toThrow(says)
  })

  it('writing', async () => {
    const converted =
      /a PEFT file does not hold the base that '.*' began from; save it as a plain LoRA for the original base/
    for (const adapter of [corda({ rank: 3 }), loraGa({ rank: 3 }), pissa({ rank: 3, niter: 4 })]) {
      const t = await tuned(adapter)
      expect(() => peftConfigOf(t)).toThrow(converted)
    }
    const rounded = {
      ...network,
      weights: Object.fromEntries(
        Object.entries(network.weights).map(([n, w]) => [n, packed(toyCodec(), w.dense()) as Weight]),
      ),
    }
    for (const adapter of [pissa({ rank: 3 }), olora({ rank: 3 }), kasa({ rank: 3 })]) {
      const t = await tuned(adapter, rounded)
      expect(() => peftConfigOf(t)).toThrow(/blocks\.0\.attn\.q: '.*' began from a base that was rounded to .* anew/)
    }
    const twice = attach(rounded, [{ adapter: loftq({ rank: 3, rounds: 2 }, network), at }], rng(1))
    expect(() => peftConfigOf(twice)).toThrow(/after 2 rounds of LoftQ the base is no longer the packed one/)
  })

  it('a DoRA with a bias, a KaSA without its numbers', () => {
    const config = { peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: ['q_proj'] }
    expect(() => peftConfig({ ...config, use_dora: true, lora_bias: true })).toThrow(
      /lora_bias is true, which is not supported/,
    )
    expect(() => peftConfig({ ...config, kasa_config: { beta: 'much' } })).toThrow(
      /kasa_config must be an object with numbers beta and gamma/,
    )
    expect(() => peftConfig({ ...config, use_dora: true, init_lora_weights: 'pissa' })).toThrow(
      /use_dora is true, which is not supported|init_lora_weights must be/,
    )
  })
})

describe('loftq in PEFT files', () => {
  it('is a LoRA on the packed base', async () => {
    const rounded = {
      ...network,
      weights: Object.fromEntries(
        Object.entries(network.weights).map(([n, w]) => [
          n,
          n === 'embed' ? dense(w.dense()) : packed(toyCodec(), w.dense()),
        ]),
      ),
    }
    const trained = attach(rounded, [{ adapter: loftq({ rank: 3, alpha: 6 }, network), at }], rng(1))
    const params = moved(trained.params)
    const folder = await saved(trained, params, { base: 'llama3' })
    const config = await readPeftConfig(folder)
    expect(config['init_lora_weights']).toBe(true)
    for (const said of [
      config,
      { ...config, init_lora_weights: 'loftq', loftq_config: { loftq_bits: 4, loftq_iter: 1 } },
    ]) {
      const start = fromPeft(said, rounded, sitesOf(rounded))
      const again = attach(start.network, start.attachments, rng(0))
      const { params: read } = await loadPeft(folder, again)
      expect(distance(await logits(again, read), await logits(trained, params))).toBeLessThan(1e-5)
    }
    const raw = { ...config, init_lora_weights: 'loftq' }
    expect(() => fromPeft(raw, network, sitesOf(network))).toThrow(/as LoftQ packed it, and this base is not packed/)
    expect(() => fromPeft({ ...raw, loftq_config: { loftq_iter: 5 } }, rounded, sitesOf(rounded))).toThrow(
      /in several rounds/,
    )
  })
})
