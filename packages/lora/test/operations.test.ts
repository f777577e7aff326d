import { addAdapters, attach, sitesOf, type Tuned } from '@weftjs/model'
import type { Adapter, Params, Site, Tensor, Tensor2D } from '@weftjs/spec'
import { add, cpu, mapParams, memory, mul, rng, scalar, tensor, transpose } from '@weftjs/tensor'
import { type Matrix, matrix, multiply, svd, transpose as turn } from '@weftjs/tensor/linalg'
import { compose, dense, lowRank, sum } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { hydra } from '../src/hydra.ts'
import { lora } from '../src/lora.ts'
import { type CombineOptions, combine } from '../src/operations/combine.ts'
import { compress, compressDense, rankFor } from '../src/operations/compress.ts'
import { type Delta, deltasOf, readyLora, stacked } from '../src/operations/factors.ts'
import { hotSwap } from '../src/operations/hot-swap.ts'
import { extractLora, toLora } from '../src/operations/to-lora.ts'
import { intsOf, model, safetensors } from './fixture.ts'

await cpu()
const file = await safetensors('operations/peft.safetensors')
const network = await model('llama3')
const sites = sitesOf(network)
const siteOf = (module: string): Site => sites.find((s) => s.module === module)!
const ids = await intsOf(file, 'input_ids')
const read = async (name: string): Promise<Matrix> =>
  matrix(...(file.entry(name).shape as [number, number]), await file.floats(name))
const product = ({ b, a, scale }: Delta): Matrix => ({
  ...multiply(b, a),
  data: multiply(b, a).data.map((v) => v * scale),
})
const near = (x: ArrayLike<number>, y: ArrayLike<number>, tolerance = 2e-5): void => {
  expect(x.length).toBe(y.length)
  const size = Math.max(...Array.from(y, Math.abs), 1e-9)
  const worst = Math.max(...Array.from(x, (v, i) => Math.abs(v - y[i]!)))
  expect(worst / size).toBeLessThan(tolerance)
}
/** modules for which the file has something under a name */
const modules = (name: string): string[] => [
  ...new Set(
    file.names.flatMap((n) => (n.startsWith(`${name}.`) && n.endsWith('.A') ? [n.slice(name.length + 1, -2)] : [])),
  ),
]
/** b and a in our orientation: of an embedding PEFT has Δᵀ */
const factors = async (name: string, module: string): Promise<{ b: Matrix; a: Matrix }> => {
  const [A, B] = [await read(`${name}.${module}.A`), await read(`${name}.${module}.B`)]
  return siteOf(module).kind === 'embed' ? { b: turn(A), a: turn(B) } : { b: B, a: A }
}
const OPTIONS = {
  one: { rank: 4, alpha: 8 },
  two: { rank: 4, alpha: 2 },
  rs: { rank: 4, alpha: 6, rslora: true },
  small: { rank: 2, alpha: 3 },
}
type Name = keyof typeof OPTIONS

/** all four on one network, each with PEFT's values */
const tuned: Tuned = await (async () => {
  const names = Object.keys(OPTIONS) as Name[]
  const all = attach(
    network,
    names.map((name) => {
      const own = modules(`in.${name}`)
      return { name, adapter: lora(OPTIONS[name]), at: (s: Site) => own.includes(s.module!) }
    }),
    rng(0),
  )
  const params: Record<string, Tensor> = {}
  for (const name of names)
    for (const module of modules(`in.${name}`)) {
      const { b, a } = await factors(`in.${name}`, module)
      const { name: site } = siteOf(module)
      params[`${site}.${name}.b`] = tensor(Float32Array.from(b.data), [b.rows, b.cols])
      params[`${site}.${name}.a`] = tensor(Float32Array.from(a.data), [a.rows, a.cols])
    }
  return { ...all, params }
})()
const deltas = Object.fromEntries(
  await Promise.all(Object.keys(OPTIONS).map(async (name) => [name, await deltasOf(tuned, { name })] as const)),
) as Record<Name, readonly Delta[]>

const [EQUAL, OTHER] = [['one', 'two', 'rs'] as Name[], ['one', 'small', 'rs'] as Name[]]
const CASES: Record<string, readonly [Name[], CombineOptions]> = {
  linear: [EQUAL, { weights: [0.7, -1.3, 0.4], type: 'linear' }],
  'linear-alone': [['two'], { weights: [-0.5], type: 'svd' }],
  cat: [OTHER, { weights: [0.7, -1.3, 0.4], type: 'cat' }],
  svd: [OTHER, { weights: [0.7, -1.3, 0.4] }],
  'svd-rank': [OTHER, { weights: [1, 0.5, 2], type: 'svd', rank: 6 }],
  ties: [EQUAL, { weights: [0.7, 1.3, 0.4], type: 'ties', density: 0.4 }],
  'ties-frequency': [EQUAL, { weights: [0.7, -1.3, 0.4], type: 'ties', density: 0.6, sign: 'frequency' }],
  ties_svd: [OTHER, { weights: [0.7, 1.3, -0.4], type: 'ties_svd', density: 0.3, rank: 5 }],
  magnitude_prune: [EQUAL, { weights: [0.7, -1.3, 0.4], type: 'magnitude_prune', density: 0.5 }],
  magnitude_prune_svd: [OTHER, { weights: [0.7, -1.3, 0.4], type: 'magnitude_prune_svd', density: 0.25 }],
  'dare_linear-whole': [EQUAL, { weights: [0.7, -1.3, 0.4], type: 'dare_linear', density: 1 }],
  'dare_ties_svd-whole': [OTHER, { weights: [0.7, 1.3, 0.4], type: 'dare_ties_svd', density: 1, rank: 4 }],
}

describe('what a LoRA adds', () => {
  it('is read with its scale, whatever the options call it', async () => {
    expect(new Set(deltas.one.map((d) => d.scale))).toEqual(new Set([2]))
    expect(new Set(deltas.two.map((d) => d.scale))).toEqual(new Set([0.5]))
    expect(new Set(deltas.rs.map((d) => d.scale))).toEqual(new Set([3]))
    expect(deltas.small.map((d) => d.site.name)).toEqual(['blocks.0.attn.q', 'blocks.1.attn.q'])
  })

  it('is refused where an adapter does more than that', async () => {
    const scaled: Adapter<any> = {
      ...lora(),
      name: 'scaled',
      init: (s, c) => ({ state: { ...lora().init(s, c)!.state, g: scalar(2) } }),
    }
    const gated: Adapter<any> = {
      ...lora(),
      name: 'gated',
      weight: (w, { a, b }) => sum(w, compose(w, lowRank(transpose(a!) as Tensor2D, transpose(b!) as Tensor2D))),
    }
    const squared: Adapter<any> = {
      ...lora(),
      name: 'squared',
      weight: (w, { a, b }) => sum(w, lowRank(b, mul(a, a) as Tensor2D)),
    }
    for (const adapter of [scaled, squared])
      await expect(deltasOf(attach(network, [{ adapter, at: 'blocks.0.attn.q' }], rng(0)))).rejects.toThrow(
        `blocks.0.attn.q: '${adapter.name}' is more than a product of two factors`,
      )
    await expect(deltasOf(attach(network, [{ adapter: gated, at: 'blocks.0.attn.q' }], rng(0)))).rejects.toThrow(
      "'gated' is more",
    )
    await expect(
      deltasOf(attach(network, [{ adapter: lora({ loraBias: true }), at: 'blocks.0.attn.q' }], rng(0))),
    ).rejects.toThrow("'lora' is more")
    await expect(deltasOf(tuned, { name: 'three' })).rejects.toThrow(
      "there is no adapter 'three' here; there are one, two, rs, small",
    )
  })
})

describe('combinations by PEFT', () => {
  it.each(Object.entries(CASES))('%s: factors and logits', async (name, [adapters, options]) => {
    const combined = combine(
      adapters.map((a) => deltas[a]),
      options,
    )
    expect(combined.map((d) => d.site.module).sort()).toEqual(modules(name).sort())
    for (const delta of combined) {
      const theirs = await factors(name, delta.site.module!)
      near(product(delta).data, multiply(theirs.b, theirs.a).data, 1e-4)
    }
    const ready = attach(network, [readyLora(combined)], rng(0))
    const { logits } = ready.forward(ready.params, { ids })
    const [B, T, V] = logits.shape as [number, number, number]
    const all = await logits.data()
    const last = Array.from({ length: B }, (_, b) => [...all.subarray((b * T + T - 1) * V, (b * T + T) * V)]).flat()
    near(last, await file.floats(`${name}.logits`), 1e-4)
  })

  it('clamped factors of an SVD end at the quantile of their own entries', async () => {
    // which sign a singular vector has is the library's choice, and the quantile of all entries depends on it:
    // the limit is the same up to that, so each factor is held to its own quantile
    const combined = combine(
      OTHER.map((a) => deltas[a]),
      { weights: [1, 0.5, 2], rank: 3, clamp: 0.9 },
    )
    const plain = combine(
      OTHER.map((a) => deltas[a]),
      { weights: [1, 0.5, 2], rank: 3 },
    )
    for (const [i, { a, b }] of combined.entries()) {
      const whole = [...plain[i]!.a.data, ...plain[i]!.b.data].sort((x, y) => x - y)
      const at = 0.9 * (whole.length - 1)
      const limit = whole[Math.floor(at)]! + (at % 1) * (whole[Math.ceil(at)]! - whole[Math.floor(at)]!)
      expect(Math.max(...[...a.data, ...b.data].map(Math.abs))).toBeCloseTo(limit, 9)
      near(
        a.data,
        plain[i]!.a.data.map((v) => Math.max(-limit, Math.min(limit, v))),
      )
    }
  })

  it('dare keeps entries by chance and their mean: the law, over many draws', () => {
    const one = deltas.one.slice(0, 1)
    const raw = one[0]!
    const n = raw.a.data.length
    const [density, draws] = [0.3, 400]
    const mean = new Float64Array(n)
    let kept = 0
    for (let i = 0; i < draws; i++) {
      // weights of 1 and 0: what comes out is √s times the thinned factor
      const [{ a }] = combine([one, one], { weights: [1, 0], type: 'dare_linear', density, rng: rng(i) }) as [Delta]
      for (const [j, v] of a.data.entries()) {
        const whole = (Math.sqrt(2) * raw.a.data[j]!) / density
        expect(v === 0 || Math.abs(v - whole) < 1e-9 * Math.abs(whole)).toBe(true)
        if (v !== 0) kept++
        mean[j]! += v / draws
      }
    }
    expect(Math.abs(kept / (n * draws) - density)).toBeLessThan(4 * Math.sqrt((density * (1 - density)) / (n * draws)))
    const off = mean.reduce((s, m, j) => s + (m / (Math.sqrt(2) * raw.a.data[j]!) - 1) ** 2, 0) / n
    // variance of the mean of Bernoulli(p)/p
    const variance = (1 - density) / density / draws
    expect(Math.abs(off / variance - 1)).toBeLessThan(4 * Math.sqrt(2 / n))
    const twice = [0, 1].map(() => combine([one, one], { type: 'dare_ties', density, rng: rng(5) })[0]!.a.data)
    expect(twice[0]).toEqual(twice[1])
    expect(combine([one, one], { type: 'dare_ties_svd', density, rank: 2, rng: rng(6) })[0]!.a.rows).toBe(2)
    expect(combine([one, one], { type: 'dare_linear_svd', density: 0, rank: 2 })[0]!.b.data.every((v) => v === 0)).toBe(
      true,
    )
  })

  it('a negative weight takes away: an adapter less itself is nothing', () => {
    for (const type of ['cat', 'svd'] as const)
      for (const d of combine([deltas.one, deltas.one], { weights: [1, -1], type }))
        expect(Math.max(...product(d).data.map(Math.abs))).toBeLessThan(1e-9)
  })

  it('says what cannot be', () => {
    const both = [deltas.one, deltas.small]
    expect(() => combine(both, { type: 'linear' })).toThrow(
      "blocks.0.attn.q: ranks 4 and 2 differ, and 'linear' mixes factors entry by entry; choose cat or svd",
    )
    expect(() => combine(both, { type: 'ties_svd' })).toThrow("'ties_svd' keeps a share of the entries; give a density")
    expect(() => combine(both, { type: 'sum' as never })).toThrow("there is no type 'sum'; there are svd, linear")
    expect(() => combine(both, { weights: [1] })).toThrow('2 adapters need as many weights, found [1]')
    expect(() => combine(both, { rank: 0 })).toThrow('rank must be a whole number')
    expect(() => combine(both, { clamp: 2 })).toThrow('clamp must be a quantile')
    expect(() => combine([])).toThrow('at least one adapter')
  })
})

describe('sums of low rank', () => {
  const all = [...deltas.one, ...deltas.two, ...deltas.rs]
  const q = all.filter((d) => d.site.name === 'blocks.0.attn.q')

  it('compressed by QR of the factors is the SVD of the matrix', () => {
    const whole = multiply(stacked(q).b, stacked(q).a)
    const { s } = svd(whole)
    for (const rank of [1, 3, 7, 12]) {
      const [small] = compress(q, { rank }) as [Delta]
      expect(small.a.rows).toBe(rank)
      const rest = product(small).data.map((v, i) => v - whole.data[i]!)
      const lost = s.slice(rank).reduce((n, v) => n + v * v, 0)
      expect(rest.reduce((n, v) => n + v * v, 0)).toBeCloseTo(lost, 8)
    }
    // no more rank than there is
    expect(compress(q, { rank: 30 })[0]!.a.rows).toBe(12)
    expect(compress([q[0]!, q[0]!], { rank: 8 })[0]!.a.rows).toBe(4)
  })

  it('a share of the variance is the smallest rank that holds it', () => {
    const { s } = svd(multiply(stacked(q).b, stacked(q).a))
    const total = s.reduce((n, v) => n + v * v, 0)
    for (const variance of [0.2, 0.5, 0.9, 0.99, 1]) {
      const k = compress(q, { variance })[0]!.a.rows
      const held = (n: number): number => s.slice(0, n).reduce((m, v) => m + v * v, 0) / total
      if (variance < 1) expect(held(k)).toBeGreaterThanOrEqual(variance)
      expect(held(k - 1)).toBeLessThan(variance)
    }
    expect(rankFor([2, 1, 1], 4 / 6)).toBe(1)
    expect(rankFor([2, 1, 1], 0.7)).toBe(2)
    expect(rankFor([0, 0], 0.9)).toBe(1)
    expect(() => compress(q, {})).toThrow('give a rank or a share of the variance, found neither')
    expect(() => compress(q, { rank: 1, variance: 0.5 })).toThrow('found both')
    expect(() => compress(q, { variance: 1.5 })).toThrow('variance must be in (0, 1], found 1.5')
  })

  it('of a large matrix is found by random projections, and the share is of the whole', () => {
    const [rows, cols, true_] = [400, 300, 20]
    const r = rng(4)
    const part = (n: number, m: number, key: string): Matrix => matrix(n, m, r.fork(key).normal([n, m]).dataSync())
    const w = multiply(part(rows, true_, 'b'), part(true_, cols, 'a'))
    const noise = part(rows, cols, 'n').data
    for (const [i, v] of noise.entries()) w.data[i]! += 0.05 * v
    const exact = svd(w)
    const k = rankFor(exact.s, 0.95)
    const found = compressDense(w, { variance: 0.95 }, 'here', rng(1))
    expect(found.a.rows).toBe(k)
    const best = exact.s.slice(k).reduce((n, v) => n + v * v, 0)
    const rest = multiply(found.b, found.a).data.reduce((n, v, i) => n + (v - w.data[i]!) ** 2, 0)
    expect(rest).toBeLessThan(1.001 * best)
    expect(() => compressDense(w, { rank: 301 }, 'here', rng(1))).toThrow('here: rank 301 exceeds min(400, 300)')
  })
})

describe('another method as a LoRA', () => {
  /** W + Δ with Δ as a fixed tensor: what PEFT's LoHa gives */
  const fixed = async (): Promise<Tuned> => {
    const own = file.names.filter((n) => n.startsWith('loha.')).map((n) => n.slice(5))
    const state: Record<string, Tensor> = {}
    for (const module of own)
      state[siteOf(module).name] = tensor(
        await file.floats(`loha.${module}`),
        file.entry(`loha.${module}`).shape as [number, number],
      )
    const adapter: Adapter<any> = {
      name: 'fixed',
      init: (site) => ({ state: { d: state[site.name]! } }),
      weight: (base, { d }) => sum(base, dense(d)),
    }
    return attach(network, [{ adapter, at: (s) => s.name in state }], rng(0))
  }

  it.each([
    ['rank', { rank: 3 }],
    ['variance', { variance: 0.9 }],
  ] as const)('of a %s, as PEFT converts LoHa', async (label, size) => {
    const converted = await toLora(await fixed(), size)
    for (const delta of converted) {
      const name = `loha-${label}.${delta.site.module}`
      const [A, B] = [await read(`${name}.lora_A.weight`), await read(`${name}.lora_B.weight`)]
      expect(delta.a.rows).toBe(A.rows)
      near(product(delta).data, multiply(B, A).data, 1e-4)
    }
    expect(converted).toHaveLength(4)
  })

  it('of full rank it is the same network; LoRAs stay factors, several at a site are one', async () => {
    const other = await fixed()
    const ready = attach(network, [readyLora(await toLora(other, { variance: 1 }))], rng(0))
    near(
      await ready.forward(ready.params, { ids }).logits.data(),
      await other.forward(other.params, { ids }).logits.data(),
      1e-4,
    )
    const before = memory().numTensors
    const one = await toLora(tuned, { rank: 14 })
    expect(memory().numTensors).toBe(before)
    const both = attach(network, [readyLora(one)], rng(0))
    near(
      await both.forward(both.params, { ids }).logits.data(),
      await tuned.forward(tuned.params, { ids }).logits.data(),
      1e-4,
    )
    expect(Object.fromEntries(one.map((d) => [d.site.name, d.a.rows]))).toMatchObject({
      'blocks.0.attn.q': 14,
      'blocks.0.attn.v': 4,
    })
  })

  it('a weight of its own in place of the frozen one counts', async () => {
    const moved: Adapter<any> = {
      ...lora({ rank: 2 }),
      name: 'moved',
      init: (site, c) => ({
        ...lora({ rank: 2 }).init(site, c)!,
        base: dense(mul(site.weight!.dense(), 0.9) as Tensor2D),
      }),
    }
    const other = attach(network, [{ adapter: moved, at: '**.q' }], rng(0))
    const params = mapParams(other.params, (p) => add(p, 0.05))
    const ready = attach(network, [readyLora(await toLora(other, { params, variance: 1 }))], rng(0))
    near(
      await ready.forward(ready.params, { ids }).logits.data(),
      await other.forward(params, { ids }).logits.data(),
      1e-4,
    )
  })

  it('takes a method that would change a bias, where there is none; and names the site where there is one', async () => {
    const start = attach(network, [{ adapter: hydra({ parallel: 2, sequential: 2 }), at: 'blocks.*.attn.q' }], rng(3))
    const params = mapParams(start.params, (p, n) => add(p, rng(4).fork(n).normal(p.shape, 0.1)))
    const ready = attach(network, [readyLora(await toLora(start, { params, rank: 4 }))], rng(0))
    near(
      await ready.forward(ready.params, { ids }).logits.data(),
      await start.forward(params, { ids }).logits.data(),
      1e-4,
    )
    const biased = attach(await model('qwen2'), [{ adapter: hydra(), at: 'blocks.0.attn.q' }], rng(0))
    await expect(toLora(biased, { rank: 1 })).rejects.toThrow("blocks.0.attn.q: 'hydra' changes the bias here too")
  })

  it('is refused where more than a weight is changed, by the name of the site', async () => {
    const around: Adapter<any> = { name: 'around', init: () => ({ state: {} }), around: (next, x) => next(x) }
    await expect(
      toLora(attach(network, [{ adapter: around, at: 'blocks.1.mlp' }], rng(0)), { rank: 1 }),
    ).rejects.toThrow("blocks.1.mlp: 'around' does not act on the weight alone")
    await expect(toLora(await fixed(), { rank: 500 })).rejects.toThrow(/rank 500 exceeds min/)
    await expect(toLora(attach(network, [], rng(0)), { rank: 1 })).rejects.toThrow('there is no adapter here')
    const ready = readyLora(deltas.one)
    expect(() => attach(network, [{ ...ready, at: (s) => s.name === 'head' }], rng(0))).toThrow()
  })
})

describe('extraction from two checkpoints', () => {
  const folded = tuned.fold(tuned.params)
  it('of what LoRAs did gives their sum back, and tells what else differs', async () => {
    const { deltas: found, left } = await extractLora(network, folded, sites, { variance: 1 - 1e-9 })
    const direct = await deltasOf(tuned)
    expect(left).toEqual(['embed'])
    for (const delta of found) {
      const own = direct.filter((d) => d.site.name === delta.site.name)
      near(product(delta).data, product(stacked(own)).data, 1e-4)
    }
    expect(found.map((d) => d.site.name).sort()).toEqual(
      [...new Set(direct.map((d) => d.site.name))].filter((n) => n !== 'embed').sort(),
    )
    const whole = await extractLora(network, folded, sites, { rank: 14, at: () => true })
    expect(whole.left).toEqual([])
    const ready = attach(network, [readyLora(whole.deltas)], rng(0))
    // PEFT's embedding LoRA leaves the tied head alone, and so does ours
    near(
      await ready.forward(ready.params, { ids }).logits.data(),
      await attach(folded, [], rng(0)).forward({}, { ids }).logits.data(),
      1e-4,
    )
  })

  it('names what does not fit', async () => {
    const other = await model('llama')
    await expect(extractLora(network, other, sites, { rank: 1 })).rejects.toThrow(
      /blocks\.0\.attn\.\w: is \[.*in one model|the second model has no such tensor/,
    )
    await expect(extractLora(network, folded, sites, { rank: 1, at: () => false })).rejects.toThrow(
      'no matrix was chosen',
    )
  })
})

describe('hot swap', () => {
  const run = async (params: Params, adapters: string[], which: Tuned = tuned): Promise<Float32Array> =>
    (await which.forward(params, { ids }, { adapters }).logits.data()) as Float32Array

  it('puts another LoRA into what runs: scales folded in, ranks filled up, sites that it lacks zero', async () => {
    const shapes = (p: Params): unknown => Object.fromEntries(Object.entries(p).map(([n, t]) => [n, t.shape]))
    const swapped = await hotSwap(tuned, deltas.small, { name: 'rs' })
    near(await run(swapped, ['rs']), await run(tuned.params, ['small']))
    expect(shapes(swapped)).toEqual(shapes(tuned.params))
    // and back
    const back = await hotSwap(tuned, deltas.rs, { params: swapped, name: 'rs' })
    near(await run(back, ['rs']), await run(tuned.params, ['rs']))
    for (const n of Object.keys(tuned.params)) if (!n.includes('.rs.')) expect(back[n]).toBe(tuned.params[n])
    // an attachment that is added to what runs is the same
    const added = addAdapters(tuned, [{ ...readyLora(deltas.two), name: 'again' }], rng(0))
    near(await run(added.params, ['again'], added), await run(tuned.params, ['two']))
  })

  it('a larger rank is taken, or refused where shapes are to stay', async () => {
    const big = combine([deltas.one, deltas.two], { type: 'cat' })
    near(await run(await hotSwap(tuned, big, { name: 'rs' }), ['rs']), await run(tuned.params, ['one', 'two']), 1e-4)
    await expect(hotSwap(tuned, big, { name: 'rs', strict: true })).rejects.toThrow('rank 8 does not fit into 4')
  })

  it('says what cannot be, and leaves nothing behind', async () => {
    const before = memory().numTensors
    await expect(hotSwap(tuned, deltas.one, { name: 'small' })).rejects.toThrow(
      "'small' does not adapt it, and the new one does",
    )
    await expect(hotSwap(tuned, deltas.one)).rejects.toThrow('which one? there are one, two, rs, small')
    await expect(hotSwap(tuned, deltas.one, { name: 'x' })).rejects.toThrow("there is no adapter 'x' here")
    const wrong = [{ ...deltas.small[0]!, a: matrix(2, 5) }]
    await expect(hotSwap(tuned, wrong, { name: 'one' })).rejects.toThrow('it belongs to another model')
    expect(memory().numTensors).toBe(before)
  })
})
