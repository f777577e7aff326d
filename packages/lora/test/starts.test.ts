import { attach, calibrate, sitesOf, type Tuned } from '@weftjs/model'
import type { Adapter, Batch, Tensor2D } from '@weftjs/spec'
import { add, cpu, matMul, mul, rng, scalar, sub, tensor } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { corda } from '../src/corda.ts'
import { eva } from '../src/eva.ts'
import { kasa } from '../src/kasa.ts'
import { loraGa } from '../src/lora-ga.ts'
import { olora } from '../src/olora.ts'
import { pissa } from '../src/pissa.ts'
import { distance, model, safetensors } from './fixture.ts'

await cpu()
// PEFT's own starts on one batch: tools/reference/adapters_starts.py
const reference = await safetensors('peft/starts.safetensors')
const network = await model('llama3')
const first = 'blocks.1.mlp.down'
const module = 'model.layers.1.mlp.down_proj'
const T = 60
const ids = await reference.ints('input_ids')
const batchOf = (all: boolean): Batch => ({
  shape: [1, T],
  ids,
  // PEFT's passes over inputs see every place; its loss has no target at the last
  targets: ids.map((_, i) => (i < T - 1 ? ids[i + 1]! : all ? 0 : -100)),
  positions: ids.map((_, i) => i),
  segments: new Int32Array(T).fill(1),
})
const largest = (a: ArrayLike<number>): number => Math.max(...Array.from(a, Math.abs))

const begun = async (adapter: Adapter<any>, at: string | string[] = first, all = true): Promise<Tuned> =>
  attach(network, [{ adapter, at }], rng(0), {
    seen: adapter.calibrates ? await calibrate(network, [batchOf(all)], { statistics: adapter.calibrates, at }) : {},
  })

describe('starts are those of PEFT', () => {
  const s = 6 / 4
  it.each([
    ['pissa', pissa({ rank: 4, alpha: 6, niter: 0 }), 1e-4],
    ['olora', olora({ rank: 4, alpha: 6 }), 1e-4],
    ['corda-ipm', corda({ rank: 4, alpha: 6, niter: 0 }), 2e-3],
    ['corda-kpm', corda({ rank: 4, alpha: 6, mode: 'kpm' }), 2e-3],
  ] as const)('%s: s·B·A', async (name, adapter, tolerance) => {
    const { params, bound } = await begun(adapter)
    const of = (key: string): Tensor2D => params[`${first}.${adapter.name}.${key}`] as Tensor2D
    const product = mul(matMul(of('b'), of('a')), s)
    const want = await reference.floats(`${name}.${module}`)
    expect(distance(await product.data(), want) / largest(want)).toBeLessThan(tolerance)
    // and what is left of W lacks just that
    const left = sub(network.weights[first]!.dense(), bound[0]!.base!.dense())
    expect(distance(await left.data(), await product.data()) / largest(want)).toBeLessThan(1e-5)
  })

  it.each([
    ['lora-ga', loraGa({ rank: 4, alpha: 6 })],
    ['lora-ga-gd', loraGa({ rank: 4, alpha: 6, direction: 'ArBr', scale: 'gd' })],
    ['lora-ga-svd', loraGa({ rank: 4, alpha: 6, direction: 'A2rBr', scale: 'weight-svd' })],
  ] as const)('%s: Aᵀ·A and B·Bᵀ, which do not depend on signs', async (name, adapter) => {
    const { params, bound } = await begun(adapter, first, false)
    const [a, b] = ['a', 'b'].map((key) => params[`${first}.lora-ga.${key}`] as Tensor2D) as [Tensor2D, Tensor2D]
    for (const [found, key] of [
      [matMul(a, a, true), name],
      [matMul(b, b, false, true), `${name}-b`],
    ] as const) {
      const want = await reference.floats(`${key}.${module}`)
      const have = await found.data()
      // PEFT takes W's first singular value from a sketch of r columns: right to a few per cent, times two in B·Bᵀ
      const by = key === 'lora-ga-svd-b' ? largest(want) / largest(have) : 1
      expect(Math.abs(by - 1)).toBeLessThan(0.06)
      expect(distance(have.map((v) => v * by) as Float32Array, want) / largest(want), key).toBeLessThan(2e-3)
    }
    const again = add(bound[0]!.base!.dense(), mul(matMul(b, a), s))
    const w = network.weights[first]!.dense()
    expect(distance(await again.data(), await w.data())).toBeLessThan(1e-5)
  })

  it('eva: ranks and the planes of their directions', async () => {
    const at = ['blocks.*.attn.q', 'blocks.*.mlp.down']
    const { params, bound } = await begun(eva({ rank: 4, alpha: 6 }), at)
    const sites = sitesOf(network)
    let ranks = 0
    for (const { site } of bound) {
      const a = params[`${site.name}.eva.a`] as Tensor2D
      ranks += a.shape[0]
      const plane = matMul(a, a, true)
      const want = await reference.floats(`eva.${sites.find((x) => x.name === site.name)!.module}`)
      expect(distance(await plane.data(), want), site.name).toBeLessThan(1e-3)
    }
    expect(ranks).toBe(4 * 4)
    expect(new Set(bound.map(({ site }) => params[`${site.name}.eva.a`]!.shape[0])).size).toBeGreaterThan(1)
  })

  it('kasa: the base, and the regularization, which PEFT leaves undivided', async () => {
    const adapter = kasa({ rank: 4, alpha: 6 })
    const { bound } = await begun(adapter)
    const base = await reference.floats(`kasa.${module}`)
    expect(distance(await bound[0]!.base!.dense().data(), base) / largest(base)).toBeLessThan(1e-5)
    const of = async (key: string, shape: number[]): Promise<never> =>
      tensor(await reference.floats(`kasa-${key}.${module}`), shape) as never
    const state = { a: await of('a', [4, 64]), b: await of('b', [48, 4]), d: await of('d', [4]) }
    const terms: number[] = []
    const context = {
      ...{ site: bound[0]!.site, training: true, inputs: {}, inner: [], scratch: new Map() },
      penalty: (t: { dataSync(): ArrayLike<number> }) => void terms.push(t.dataSync()[0]!),
    }
    for (const sites of [1, 5])
      adapter.weight!(bound[0]!.base!, state, { ...context, shared: { sites: scalar(sites) } })
    const [want] = await reference.floats('kasa-loss')
    expect(terms[0]).toBeCloseTo(want!, 5)
    expect(terms[1]).toBeCloseTo(want! / 5, 5)
    adapter.weight!(bound[0]!.base!, state, { ...context, training: false, shared: {} })
    expect(terms.length).toBe(2)
  })
})
