import { attach, revising } from '@weftjs/model'
import type { Codec, Params, Scalar, Tensor } from '@weftjs/spec'
import {
  add,
  applyUpdates,
  backprop,
  dispose,
  div,
  keepParams,
  logSoftmax,
  mapParams,
  memory,
  mul,
  rng,
  softmax,
  sqrt,
  square,
  sub,
  sum,
  tensor,
  tidy,
  wasm,
  zerosLike,
} from '@weftjs/tensor'
import { testAdapter, tinyLlama } from '@weftjs/testkit'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { affine, aqlm, nf4, type PvOptions, pv, quantize } from '../src/index.ts'
import { groupsOf, type Opening, short } from '../src/train/open.ts'
import { trainable } from '../src/train/pv.ts'
import { vStep } from '../src/train/v-step.ts'

const small = aqlm({ codebooks: 2, bits: 3, group: 4, rounds: 1, steps: 4, calibrate: false })
const suiteOf = (of: Codec<any>, falls: number) =>
  ({
    startsAsIdentity: false,
    count: (site: { in: number; out: number }) => trainable(site, of),
    falls,
    tolerance: 5e-5,
  }) as const
testAdapter(pv({ of: small }), suiteOf(small, 0.02))
testAdapter(pv({ of: small }), { ...suiteOf(small, 0.02), backend: wasm })
const blocks = nf4({ block: 32 })
testAdapter(pv({ of: blocks }), suiteOf(blocks, 0.005))

const one: Opening = {
  ...{ shape: [1, 4], codebooks: 1, bits: 1, group: 1, outGroup: 1, block: 4 },
  ...{ learns: true, halves: false },
}
const all = { tau: 1, trust: 1e9, beam: 1 }

describe('the V step', () => {
  it('flips a code of two levels exactly where the target has crossed the middle', () =>
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { minLength: 4, maxLength: 4 }),
        fc.array(fc.nat(1), { minLength: 4, maxLength: 4 }),
        (aims, bits) => {
          const target = Float32Array.from(aims)
          const codes = Int32Array.from(bits)
          // levels of 2·(0.5, -1.5) = 1, -3: the middle is -1
          const next = vStep(one, { codes, books: Float32Array.of(0.5, -1.5), scale: Float32Array.of(2), target }, all)
          target.forEach((t, i) => {
            if (t !== -1) expect(next[i]).toBe(t > -1 ? 0 : 1)
          })
        },
      ),
    ))

  it('moves no more groups than τ, the farthest first, and the matrix no more than trust, but by one group', () =>
    fc.assert(
      fc.property(
        fc.nat(1000),
        fc.constantFrom(0.02, 0.1, 0.5, 1),
        fc.constantFrom(0.01, 0.1, 0.4, 10),
        fc.constantFrom(1, 2),
        (seed, tau, trust, codebooks) => {
          const at: Opening = {
            shape: [6, 24],
            codebooks,
            bits: 3,
            group: 3,
            outGroup: 1,
            block: 8,
            learns: true,
            halves: false,
          }
          const numbers = (n: number, key: string) => Float32Array.from(rng(seed).fork(key).normal([n]).dataSync())
          const codes = Int32Array.from(rng(seed).numbers(48 * codebooks), (v) => Math.floor(8 * v))
          const [books, scale, target] = [numbers(8 * 3 * codebooks, 'b'), numbers(6, 's'), numbers(144, 't')]
          const next = vStep(at, { codes, books, scale, target }, { tau, trust, beam: 2 })
          const [before, after] = [groupsOf(at, codes, books, scale), groupsOf(at, next, books, scale)]
          const squares = (of: (i: number) => number, g = -1) =>
            Array.from({ length: 144 }, (_, i) => (g < 0 || Math.floor(i / 3) === g ? of(i) ** 2 : 0)).reduce(
              (a, b) => a + b,
              0,
            )
          const moved = Array.from({ length: 48 }, (_, g) => g).filter((g) =>
            codes.slice(g * codebooks, (g + 1) * codebooks).some((c, k) => c !== next[g * codebooks + k]),
          )
          expect(moved.length).toBeLessThanOrEqual(Math.ceil(tau * 48))
          const change = Math.sqrt(squares((i) => after[i]! - before[i]!))
          if (moved.length > 1)
            expect(change).toBeLessThanOrEqual(trust * Math.sqrt(squares((i) => before[i]!)) * (1 + 1e-5))
          for (const g of moved)
            expect(squares((i) => target[i]! - after[i]!, g)).toBeLessThanOrEqual(
              squares((i) => target[i]! - before[i]!, g) * (1 + 1e-4),
            )
          const far = Array.from({ length: 48 }, (_, g) => squares((i) => target[i]! - before[i]!, g))
          const order = far.map((_, g) => g).sort((a, b) => far[b]! - far[a]!)
          for (const g of moved) expect(order.indexOf(g)).toBeLessThan(Math.ceil(tau * 48))
        },
      ),
      { numRuns: 60 },
    ))
  it('leaves alone what is at its target, and what is multiplied by 0', () => {
    const at: Opening = { ...one, shape: [2, 2], block: 2 }
    const codes = Int32Array.of(0, 1, 0, 1)
    const books = Float32Array.of(1, -1)
    const scale = Float32Array.of(2, 0)
    expect(vStep(at, { codes, books, scale, target: Float32Array.of(2, -2, 5, 5) }, all)).toEqual(codes)
  })
})

it('numbers that train are rounded as float16 rounds them', () => {
  fc.assert(
    fc.property(fc.double({ min: -1000, max: 1000, noNaN: true }), (x) => {
      const v = Math.fround(x)
      const s = short(v)
      expect(Math.abs(s - v)).toBeLessThanOrEqual(Math.abs(v) * 2 ** -11)
      expect(short(s)).toBe(s)
    }),
  )
  expect([short(1 + 2 ** -10), short(1 + 2 ** -12), short(-2049)]).toEqual([1 + 2 ** -10, 1, -2048])
})

const V = 32
const AT = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'
const idsOf = (seed: number, rows = 8): Tensor =>
  tensor(
    Int32Array.from(rng(seed).numbers(8 * rows), (v) => Math.floor(v * V)),
    [rows, 8],
    'int32',
  )
/** KL(teacher ‖ student), a token */
const kl = (teacher: Tensor, student: Tensor): Scalar =>
  mul(sum(mul(softmax(teacher), sub(logSoftmax(teacher), logSoftmax(student)))), V / teacher.size) as Scalar

interface Run {
  readonly before: number
  readonly after: number
  readonly params: Params
  readonly tuned: ReturnType<typeof attach>
}
/** distils the network into what is left of it in the format, by Adam with steps relative to the size of each tensor */
const distilled = async (
  seed: number,
  codec: Codec<any>,
  options: PvOptions,
  { steps = 40, lr = 0.01, rows = 8, visit = (_: Params): void => {} } = {},
): Promise<Run> => {
  const teacher = tinyLlama(rng(seed), { vocabulary: V })
  const packed = await quantize(teacher, codec)
  const whole = attach(teacher, [], rng(0))
  const run = revising(attach(packed, [{ adapter: pv(options), at: AT }], rng(1)), { steps, seed })
  const norm = (t: Tensor): Tensor => sqrt(sum(square(t)))
  const copy = (from: Params, f: (t: Tensor) => Tensor): Params => tidy(() => keepParams(mapParams(from, f)))
  let params = copy(run.tuned.params, (p) => add(p, 0))
  let [m, v] = [copy(params, zerosLike), copy(params, zerosLike)]
  const test = (): number => {
    const losses = [1, 2, 3].map(
      (i) =>
        tidy(() =>
          kl(
            whole.forward({}, { ids: idsOf(900 + i) }).logits,
            run.tuned.forward(params, { ids: idsOf(900 + i) }).logits,
          ),
        ).dataSync()[0]!,
    )
    return losses.reduce((a, b) => a + b) / losses.length
  }
  const before = test()
  for (let t = 1; t <= steps; t++) {
    const next = tidy(() => {
      const ids = idsOf(1000 * seed + t, rows)
      const { logits } = whole.forward({}, { ids })
      const { grads } = backprop((p) => kl(logits, run.tuned.forward(p, { ids }, { training: true }).logits), params)
      const m1 = mapParams(grads, (g, n) => add(mul(m[n]!, 0.9), mul(g, 0.1)))
      const v1 = mapParams(grads, (g, n) => add(mul(v[n]!, 0.95), mul(square(g), 0.05)))
      const updates = mapParams(m1, (x, n) => {
        const d = div(x, add(sqrt(v1[n]!), 1e-8))
        return mul(d, mul(div(norm(params[n]!), norm(d)), -lr))
      })
      return { m: m1, v: v1, params: run.revise(applyUpdates(params, updates), grads, t).params }
    })
    dispose([...Object.values(params), ...Object.values(m), ...Object.values(v)])
    ;({ params, m, v } = next)
    visit(run.buffers)
  }
  return { before, after: test(), params, tuned: run.tuned }
}
const two = aqlm({ codebooks: 1, bits: 4, group: 4, rounds: 2, calibrate: false })

describe('distilled into a bit a weight', () => {
  beforeAll(async () => {
    await wasm()
  })

  it('steps that move no code are those of the code books alone', async () => {
    const plain = await distilled(1, two, { tau: 0 }, { steps: 4 })
    const still = await distilled(1, two, { codeLr: 0, decay: 1 }, { steps: 4 })
    expect(Object.keys(still.params)).toEqual(Object.keys(plain.params))
    for (const [name, p] of Object.entries(plain.params)) expect(still.params[name]!.dataSync()).toEqual(p.dataSync())
  })

  it('codes move while it trains, and nothing piles up', async () => {
    const counts: number[] = []
    const { tuned, params, before, after } = await distilled(
      2,
      two,
      { tau: 0.1, trust: 0.1, codeLr: 0.3 },
      { steps: 12, visit: (moved) => counts.push(memory().numTensors - Object.keys(moved).length) },
    )
    expect(new Set(counts.slice(1)).size).toBe(1)
    expect(after).toBeLessThan(before)
    // folded, it is packed in the format with these codes, and gives the same
    const ids = idsOf(5)
    const folded = tuned.fold(params)
    const changed = tuned.bound.filter(({ prefix, site }) => {
      const weight = folded.weights[site.name]!
      expect(weight.format).toBe('aqlm')
      expect(weight.codec!.options).toMatchObject({ codebooks: 1, bits: 4, group: 4 })
      const codes = weight.parts['q']!.dataSync()
      expect(tuned.constants[`${prefix}.codes`]!.dtype).toBe('int32')
      return codes.some((c, i) => c !== site.weight!.parts['q']!.dataSync()[i])
    })
    expect(changed.length).toBeGreaterThan(5)
    const [a, b] = [tuned.forward(params, { ids }).logits, attach(folded, [], rng(0)).forward({}, { ids }).logits]
    const [x, y] = [a.dataSync(), b.dataSync()]
    x.forEach((v, i) => {
      expect(v).toBeCloseTo(y[i]!, 4)
    })
  })

  // On random networks this small the paper's order shows in part. Of 2 bits on an even grid, 300 steps of 512 tokens, three
  // seeds: scales alone 0.110 0.099 0.132, PV at a rate of 0.003 0.106 0.096 0.121, all codes at once at 0.01 0.104 0.125
  // 0.154. Of a bit a weight in a code book the book weighs most: 0.107 0.099 0.143 alone, PV 0.115 0.101 0.144, all 0.160
  // 0.140 0.187. What is run here is too short for a verdict, and is printed.
  it('KL to the teacher: scales or books alone, PV, and straight through', async () => {
    const methods: Record<string, PvOptions> = {
      P: { tau: 0 },
      PV: { codeLr: 0.01 },
      STE: { codeLr: 0.01, tau: 1, trust: 1e9 },
    }
    const table: Record<string, number[]> = {}
    const codec = affine({ bits: 2, group: 8 })
    for (const [method, options] of Object.entries(methods))
      for (const seed of [1, 2, 3]) {
        const { before, after } = await distilled(seed, codec, options, { steps: 40, rows: 32, lr: 3e-3 })
        expect(after).toBeLessThan(before)
        table[method] = [...(table[method] ?? []), +after.toFixed(4)]
      }
    console.info('KL to the teacher after 40 steps', JSON.stringify(table))
  }, 300_000)

  it('what cannot be is said', async () => {
    const teacher = tinyLlama(rng(1))
    expect(() => attach(teacher, [{ adapter: pv(), at: AT }], rng(0))).toThrow(
      /blocks.0.attn.q: codes of a dense matrix cannot be trained; quantize it to one of aqlm/,
    )
    expect(() => attach(teacher, [{ adapter: pv({ of: nf4({ block: 32, double: true }) }), at: AT }], rng(0))).toThrow(
      'use double: false',
    )
    expect(() => pv({ tau: 1.5 })).toThrow('tau must be in (0, 1]')
    expect(() => pv({ trust: 0 })).toThrow('trust must be above 0')
    expect(() => pv({ decay: 2 })).toThrow('decay must be in [0, 1]')
    expect(() => pv({ b2: 1 })).toThrow('b2 must be in [0, 1)')
    expect(() => pv({ beam: 0 })).toThrow('beam must be')
  })

  it.each([
    ['nf4', nf4({ block: 32 }) as Codec],
    ['affine', affine({ bits: 2, group: 8 }) as Codec],
    ['affine without zeros', affine({ bits: 3, group: -1, symmetric: true }) as Codec],
    ['aqlm of two books over two rows', aqlm({ bits: 2, group: 4, outGroup: 2, rounds: 1, calibrate: false }) as Codec],
  ])('%s: begins as it is, and is packed again as it was', async (_, codec) => {
    const network = await quantize(tinyLlama(rng(4), { vocabulary: V }), codec)
    const tuned = attach(network, [{ adapter: pv(), at: AT }], rng(0))
    const ids = idsOf(6)
    const y = attach(network, [], rng(0)).forward({}, { ids }).logits.dataSync()
    tuned
      .forward(tuned.params, { ids })
      .logits.dataSync()
      .forEach((v, i) => {
        expect(v).toBeCloseTo(y[i]!, 4)
      })
    const folded = tuned.fold(tuned.params)
    for (const { site } of tuned.bound)
      for (const [part, t] of Object.entries(site.weight!.parts))
        expect(folded.weights[site.name]!.parts[part]!.dataSync(), part).toEqual(t.dataSync())
  })
})
