import { attach, nextToken } from '@weftjs/model'
import { backprop, countParams, rng, type Tensor, tensor } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { type PolyhistorOptions, polyhistor, trainable } from '../src/polyhistor.ts'
import { context, countOwn, expectNear, gap, ids, logits, moved, network, site, tune, values } from './beside.ts'

const at = 'blocks.*.mlp'
const small = { embedding: 6, rank: 2, reduction: 4 } as const
const tasks = (...t: number[]): Tensor => tensor(t, [t.length], 'int32')
const batch = { shape: [2, 5] as const, targets: Int32Array.from([2, 3, 4, 5, -100, 7, 8, 9, 10, -100]) }

describe('polyhistor', () => {
  it('is the model itself at first, for every task', async () => {
    const plain = logits(attach(network, [], rng(0)))
    for (const options of [{}, { lite: false }, { template: 8 }]) {
      const tuned = tune(polyhistor({ ...small, ...options, tasks: 2 }), at)
      expect(await gap(tuned.forward(tuned.params, { ids: ids(), task: tasks(0, 1) }).logits, plain)).toBe(0)
    }
  })

  it('is y + (K_U ⊗ U)·relu((K_D ⊗ D)·y) with D = P·Q from the embedding of the task, filled in by another way', async () => {
    const [C, c, f, b, q, k] = [8, 4, 2, 2, 2, 3]
    const options = { embedding: k, rank: q, reduction: 2, template: c, activation: 'relu', tasks: 2 } as const
    const adapter = polyhistor(options)
    const made: Record<string, Tensor> = {}
    const shared = (key: string): Tensor =>
      (made[key] ??= rng(9)
        .fork(key)
        .normal({ tasks: [2, k], pd: [b * q, k], qd: [q * c, k], pu: [c * q, k], qu: [q * b, k] }[key]!))
    const place = site({ in: C, out: C })
    const { state } = adapter.init(place, { rng: rng(1), sites: [place], shared } as never)!
    const full = { scaleDown: rng(2).normal([f, f]), scaleUp: rng(3).normal([f, f]) } as typeof state
    expect(Object.fromEntries(Object.entries(state).map(([n, t]) => [n, t!.shape]))).toEqual({
      scaleDown: [2, 2],
      scaleUp: [2, 2],
    })
    const x = rng(4).normal([2, 1, C])
    const y = await values(
      adapter.around!((v) => v, x, full, context({ site: place, shared: made, inputs: { task: tasks(1, 0) } })),
    )
    const [v, pd, qd, pu, qu] = (await Promise.all(
      ['tasks', 'pd', 'qd', 'pu', 'qu'].map((n) => values(made[n]!)),
    )) as number[][]
    const [kd, ku, xs] = (await Promise.all([full.scaleDown!, full.scaleUp!, x].map(values))) as number[][]
    const dot = (w: number[], row: number, t: number): number =>
      [0, 1, 2].reduce((s, j) => s + w![row * k + j]! * v![t * k + j]!, 0)
    /** K ⊗ P·Q at [i, j]: P [m, q], Q [q, n] */
    const at =
      (K: number[], P: number[], Q: number[], m: number, n: number, t: number) =>
      (i: number, j: number): number =>
        K[Math.floor(i / m) * f + Math.floor(j / n)]! *
        [0, 1].reduce((s, r) => s + dot(P, (i % m) * q + r, t) * dot(Q, r * n + (j % n), t), 0)
    const want = [1, 0].flatMap((t, row) => {
      const [D, U] = [at(kd!, pd!, qd!, b, c, t), at(ku!, pu!, qu!, c, b, t)]
      const input = xs!.slice(row * C, row * C + C)
      const hidden = Array.from({ length: f * b }, (_, i) =>
        Math.max(
          0,
          input.reduce((s, value, j) => s + D(i, j) * value, 0),
        ),
      )
      return input.map((value, i) => value + hidden.reduce((s, h, j) => s + U(i, j) * h, 0))
    })
    expectNear(y, want, 1e-3)
  })

  it('rows of one batch are each of their task', async () => {
    for (const lite of [true, false]) {
      const tuned = tune(polyhistor({ ...small, lite, tasks: 3 }), at)
      const params = moved(tuned, 0.3)
      const of = (task: Tensor) => values(tuned.forward(params, { ids: ids(), task }).logits)
      const [two, zero, mixed] = await Promise.all([of(tasks(2)), of(tasks(0)), of(tasks(2, 0))])
      expectNear(mixed!, [...two!.slice(0, 120), ...zero!.slice(120)], 1e-4)
      expect(two!.some((v, i) => Math.abs(v - zero![i]!) > 1e-3)).toBe(true)
    }
  })

  it('trains T·k + 2·k·q·(b₀ + C₀) + 2·Σ f² numbers as Lite; a task more adds k', () => {
    const count = (options: PolyhistorOptions): number =>
      countParams(tune(polyhistor({ ...small, ...options }), at).params)
    expect(count({ tasks: 4 })).toBe(4 * 6 + 2 * 6 * 2 * (4 + 16) + 2 * 2)
    expect(count({ tasks: 4, template: 8 })).toBe(4 * 6 + 2 * 6 * 2 * (2 + 8) + 2 * (2 * 2 ** 2))
    expect(count({ tasks: 5 }) - count({ tasks: 4 })).toBe(6)
    expect(count({ tasks: 5, lite: false }) - count({ tasks: 4, lite: false })).toBe(6)
    expect(countOwn(tune(polyhistor({ ...small, lite: false }), at))).toBe(
      2 * trainable(site({ in: 16, out: 16 }), { ...small, lite: false }),
    )
  })

  it('what all layers share has its gradient where blocks run again for the backward pass', async () => {
    const tuned = tune(polyhistor({ ...small, tasks: 2 }), at)
    const params = moved(tuned)
    const grads = (recompute: boolean) =>
      backprop((p) => nextToken(tuned.run(p, { ids: ids(), task: tasks(0, 1) }, { recompute }), batch), params).grads
    const [once, twice] = [grads(false), grads(true)]
    for (const [name, g] of Object.entries(once)) expect(await gap(twice[name]!, g)).toBeLessThan(1e-5)
  })

  it('says what is wrong with a task', () => {
    const tuned = tune(polyhistor({ ...small, tasks: 2 }), at)
    expect(() => logits(tuned)).toThrow(
      'blocks.0.mlp: 2 tasks are told apart here; say in inputs.task which one each row is of',
    )
    expect(() => tuned.forward(tuned.params, { ids: ids(), task: tasks(0, 1, 0) })).toThrow(
      'inputs.task names 3 tasks for a batch of 2 rows',
    )
  })

  it.each<[PolyhistorOptions, string]>([
    [{ ...small, template: 5 }, 'blocks.0.mlp: width 16 is not 5 times a power of two'],
    [{ ...small, reduction: 3 }, 'blocks.0.mlp: reduction 3 does not divide 16'],
    [{ ...small, rank: 5 }, 'blocks.0.mlp: rank 5 exceeds the 4 hidden units of width 16'],
    [{ tasks: 0 }, 'polyhistor: tasks must be a whole number of at least 1, found 0'],
  ])('refuses %o', (options, message) => {
    expect(() => tune(polyhistor(options), at)).toThrow(message)
  })
})
