import type { Adapter, Params, Tensor } from '@weftjs/spec'
import {
  add,
  backprop,
  clone,
  concat,
  cpu,
  keepParams,
  mapParams,
  memory,
  mul,
  pad,
  rng,
  slice,
  tensor,
  tidy,
  zeros,
} from '@weftjs/tensor'
import { dense, lowRank, sum } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import {
  type Attachment,
  attach,
  type Completion,
  complete,
  type ForwardOptions,
  initNetwork,
  meanLoss,
  nextToken,
  type Tuned,
} from '../src/index.ts'

await cpu()
const source = {
  ...{ model_type: 'llama', vocab_size: 13, hidden_size: 8, num_hidden_layers: 2, num_attention_heads: 2 },
  ...{ intermediate_size: 12, max_position_embeddings: 32, tie_word_embeddings: true, attention_bias: true },
}
const network = initNetwork(source, rng(3))
const [B, T] = [4, 5]
const ids = tensor(
  Int32Array.from({ length: B * T }, (_, i) => (i * 5 + 2) % 13),
  [B, T],
  'int32',
)
const values = (t: Tensor): number[] => [...t.dataSync()]
const bits = (t: Tensor): number[] => [...new Uint32Array(Float32Array.from(t.dataSync()).buffer)]

/** W + B·A, both random */
const low: Adapter<any> = {
  name: 'low',
  init: (site, { rng }) => {
    const [out, input] = site.weight!.shape
    return { state: { b: rng.normal([out, 2], 0.3), a: rng.normal([2, input], 0.3) } as any }
  },
  weight: (base, { a, b }) => sum(base, lowRank(b, a)),
}
/** another matrix in place of the frozen one */
const moved: Adapter<any> = {
  ...low,
  name: 'moved',
  init: (site, context) => ({
    ...low.init(site, context)!,
    base: dense(mul(site.weight!.dense(), 0.5) as never),
  }),
}
/** next(x) + t */
const shift: Adapter<any> = {
  name: 'shift',
  init: (site, { rng }) => ({ state: { t: rng.normal([site.out], 0.3) } as any }),
  around: (next, x, { t }) => add(next(x), t!),
}
/** two keys and values more, which every query sees */
const prefix: Adapter<any> = {
  name: 'prefix',
  init: (_, { rng }) => ({ state: { k: rng.normal([1, 2, 2, 4]), v: rng.normal([1, 2, 2, 4]) } as any }),
  attend: (next, { q, k, v, bias, causal }, state) => {
    const many = (t: Tensor): Tensor => concat(Array<Tensor>(q.shape[0]!).fill(t), 0)
    const join = (t: Tensor, x: Tensor): Tensor => concat([many(t), x], 2)
    return next({
      ...{ q, k: join(state.k!, k), v: join(state.v!, v), causal },
      ...(bias && {
        bias: pad(bias, [
          [0, 0],
          [0, 0],
          [0, 0],
          [2, 0],
        ]),
      }),
    })
  },
}
const logits = (tuned: Tuned, options?: ForwardOptions, inputs: Params = { ids }): Tensor =>
  tuned.forward(tuned.params, inputs, options).logits
const close = (a: Tensor, b: Tensor): void => {
  expect(a.shape).toEqual(b.shape)
  const [x, y] = [values(a), values(b)]
  x.forEach((v, i) => {
    expect(v).toBeCloseTo(y[i]!, 5)
  })
}
/** each row as a batch of its own */
const alone = (tuned: Tuned, rows: readonly (readonly string[])[], inputs: Params = { ids }): Tensor =>
  concat(
    rows.map((adapters, i) => {
      const one = mapParams(inputs, (x) => slice(x, [i, 0], [1, x.shape[1]!]))
      return logits(tuned, { adapters }, one)
    }),
    0,
  )
const differ = (a: Tensor, b: Tensor): void => {
  expect(values(a).some((v, i) => Math.abs(v - b.dataSync()[i]!) > 1e-3)).toBe(true)
}

describe('several adapters', () => {
  const tuned = attach(
    network,
    [
      { adapter: low, at: 'blocks.*.attn.{q,v}', name: 'one' },
      { adapter: moved, at: 'blocks.*.{attn,mlp}.{q,up}', name: 'two' },
      { adapter: shift, at: 'blocks.1.mlp' },
    ],
    rng(1),
    { train: '**.bias' },
  )
  const only = (attachments: readonly Attachment[]): Tensor => {
    const own = attach(network, attachments, rng(1))
    return own.forward(tuned.params, { ids }).logits
  }

  it('none of them is the network as it was, bit by bit, though all of them are attached', () => {
    expect(bits(logits(tuned, { adapters: [] }))).toEqual(bits(attach(network, [], rng(0)).forward({}, { ids }).logits))
    differ(logits(tuned), logits(tuned, { adapters: [] }))
  })

  it('the one that is named acts as if it were attached alone, its base among it', () => {
    for (const [name, attachment] of [
      ['one', { adapter: low, at: 'blocks.*.attn.{q,v}', name: 'one' }],
      ['two', { adapter: moved, at: 'blocks.*.{attn,mlp}.{q,up}', name: 'two' }],
      ['shift', { adapter: shift, at: 'blocks.1.mlp' }],
    ] as const)
      expect(bits(logits(tuned, { adapters: [name] }))).toEqual(bits(only([attachment])))
  })

  it('all of them named is what no name is', () => {
    expect(bits(logits(tuned, { adapters: ['shift', 'two', 'whole', 'one'] }))).toEqual(bits(logits(tuned)))
  })

  it('what trains whole goes by the name `whole`', () => {
    const params = mapParams(tuned.params, (p, n) => (n.endsWith('.bias') ? add(p, 0.3) : p))
    const run = (adapters: string[]): Tensor => tuned.forward(params, { ids }, { adapters }).logits
    expect(bits(run([]))).toEqual(bits(logits(tuned, { adapters: [] })))
    differ(run(['whole']), run([]))
    expect(bits(run(['whole']))).toEqual(
      bits(attach(network, [], rng(0), { train: '**.bias' }).forward(params, { ids }).logits),
    )
  })

  it('folds those that are named', () => {
    close(
      attach(tuned.fold(tuned.params, { adapters: ['one'] }), [], rng(0)).forward({}, { ids }).logits,
      logits(tuned, { adapters: ['one'] }),
    )
    expect(() => tuned.fold(tuned.params)).toThrow("blocks.1.mlp: 'shift' acts around the module")
    expect(tuned.fold(tuned.params, { adapters: [] }).weights['blocks.0.attn.q']).toBe(
      network.weights['blocks.0.attn.q'],
    )
  })

  it('only what acts has a gradient', () => {
    const params = mapParams(tuned.params, (p) => clone(p)) // those that train whole are the network's own
    const batch = { shape: [B, T] as const, targets: Int32Array.from({ length: B * T }, (_, i) => i % 13) }
    const { grads } = backprop((p) => nextToken(tuned.run(p, { ids }, { adapters: ['one'] }), batch), params)
    for (const [name, g] of Object.entries(grads))
      expect([name, values(g).some((v) => v !== 0)]).toEqual([name, name.includes('.one.')])
  })

  it('says which names there are', () => {
    expect(() => logits(tuned, { adapters: ['three'] })).toThrow(
      "adapters: there is no 'three' here; there are one, two, shift, whole",
    )
    expect(() => logits(tuned, { rows: [['one'], ['thre'], [], []] })).toThrow("there is no 'thre' here")
    expect(() => attach(network, [{ adapter: low, at: 'head', name: 'whole' }], rng(0))).toThrow("'whole' stands for")
    expect(() =>
      attach(
        network,
        [
          { adapter: moved, at: 'head' },
          { adapter: moved, at: 'head', name: 'again' },
        ],
        rng(0),
      ),
    ).toThrow("head: 'moved' and 'again' both put a weight of their own in place")
  })
})

describe('attaching', () => {
  const late: Adapter<any> = {
    name: 'late',
    init: (site, context) => {
      context.shared('common', (r) => r.normal([3]))
      const state = { t: mul(context.rng.normal([4]), 2) } as any // a tensor on the way
      if (site.layer === 1) throw new Error(`${site.name}: no`)
      return { state, base: dense(mul(site.weight!.dense(), 2) as never) }
    },
    weight: (base) => base,
  }
  it('keeps what it is to keep and nothing else; where a start fails, nothing at all', () => {
    const before = memory().numTensors
    expect(() =>
      attach(
        network,
        [
          { adapter: low, at: '**.q' },
          { adapter: late, at: '**.q' },
        ],
        rng(1),
      ),
    ).toThrow('blocks.1.attn.q: no')
    expect(memory().numTensors).toBe(before)
    const tuned = attach(network, [{ adapter: late, at: 'blocks.0.attn.q' }], rng(1), { train: 'norm' })
    expect(memory().numTensors).toBe(before + 3) // t, common and a base
    expect(values(tuned.forward(tuned.params, { ids }).logits).every(Number.isFinite)).toBe(true)
    expect(network.vectors['norm']!.isDisposed).toBe(false)
  })
})

describe('a different adapter for each row', () => {
  const rows = [['one'], [], ['two', 'one'], ['one']]
  const kinds: Record<string, readonly Attachment[]> = {
    weights: [
      { adapter: low, at: 'blocks.*.attn.{q,v}', name: 'one' },
      { adapter: moved, at: 'blocks.*.{attn,mlp}.{q,up}', name: 'two' },
    ],
    'around linear layers, norms and MLPs': [
      { adapter: shift, at: 'blocks.*.{norm1,attn.o}', name: 'one' },
      { adapter: shift, at: ['blocks.*.mlp', 'norm'], name: 'two' },
    ],
    'at the attention core': [
      { adapter: prefix, at: 'blocks.*.attn.core', name: 'one' },
      { adapter: low, at: 'blocks.0.attn.v', name: 'two' },
    ],
    'embeddings and head': [
      { adapter: low, at: 'embed', name: 'one' },
      { adapter: low, at: 'head', name: 'two' },
    ],
    'an MLP within which a weight is adapted': [
      { adapter: shift, at: 'blocks.*.mlp', name: 'one' },
      { adapter: low, at: 'blocks.*.mlp.down', name: 'two' },
    ],
  }
  it.each(Object.keys(kinds))('%s: as each row alone', (kind) => {
    const tuned = attach(network, kinds[kind]!, rng(1))
    const together = logits(tuned, { rows })
    close(together, alone(tuned, rows))
    differ(together, logits(tuned, { adapters: [] }))
    // with padding, whose mask has rows too
    const mask = tensor([1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [B, T], 'int32')
    close(logits(tuned, { rows }, { ids, mask }), alone(tuned, rows, { ids, mask }))
    // order does not matter, nor a name twice
    expect(bits(logits(tuned, { rows: rows.map((r) => [...r, ...r].reverse()) }))).toEqual(bits(together))
  })

  it.each(Object.keys(kinds))('%s: gradients are the sums of those of each row', (kind) => {
    const tuned = attach(network, kinds[kind]!, rng(1))
    const targets = Int32Array.from({ length: B * T }, (_, i) => (i * 3) % 13)
    const batch = { shape: [B, T] as const, targets }
    const { loss, grads } = backprop((p) => nextToken(tuned.run(p, { ids }, { rows }), batch), tuned.params)
    const parts = rows.map((adapters, i) =>
      backprop(
        (p) =>
          nextToken(tuned.run(p, { ids: slice(ids, [i, 0], [1, T]) }, { adapters }), {
            ...{ shape: [1, T], targets: targets.subarray(i * T, i * T + T) },
          }),
        tuned.params,
      ),
    )
    expect(values(loss)[0]).toBeCloseTo(
      parts.reduce((s, p) => s + values(p.loss)[0]! / B, 0),
      5,
    )
    for (const [name, g] of Object.entries(grads))
      close(
        g,
        mul(
          parts.map((p) => p.grads[name]!).reduce((a, b) => add(a, b)),
          1 / B,
        ),
      )
    // the same where each block is run again
    if (kind === 'weights') {
      const again = backprop((p) => nextToken(tuned.run(p, { ids }, { rows, recompute: true }), batch), tuned.params)
      for (const [name, g] of Object.entries(grads)) close(g, again.grads[name]!)
    }
  })

  it('biases and norms that train whole differ from row to row, too', () => {
    const tuned = attach(network, [], rng(1), { train: ['**.bias', '**.norm2', 'norm', 'blocks.1.mlp.up', 'embed'] })
    const params = mapParams(tuned.params, (p) => add(p, 0.2))
    const rows = [['whole'], [], [], ['whole']]
    const of = (adapters: string[]): Tensor => tuned.forward(params, { ids }, { adapters }).logits
    const [whole, none] = [of(['whole']), of([])]
    const both = tuned.forward(params, { ids }, { rows }).logits
    const row = (t: Tensor, i: number): Tensor => slice(t, [i, 0, 0], [1, T, 13])
    close(both, concat([row(whole, 0), row(none, 1), row(none, 2), row(whole, 3)], 0))
  })

  it('what an adapter reads of the batch is that of its rows', () => {
    const seen: number[][] = []
    const watch: Adapter<any> = {
      name: 'watch',
      init: () => ({ state: {} }),
      around: (next, x, _, { inputs }) => {
        seen.push(values(inputs['ids']!), [...inputs['one']!.shape])
        return next(x)
      },
    }
    const tuned = attach(network, [{ adapter: watch, at: 'blocks.0.mlp' }], rng(1))
    logits(tuned, { rows: [[], ['watch'], [], ['watch']] }, { ids, one: zeros([1, 2]) })
    expect(seen).toEqual([
      [...values(slice(ids, [1, 0], [1, T])), ...values(slice(ids, [3, 0], [1, T]))],
      [1, 2],
    ])
  })

  it('leaves no tensor behind, and rows that all have the same adapters are run as one', () => {
    const tuned = attach(network, kinds['weights']!, rng(1))
    keepParams(tuned.params)
    const before = memory().numTensors
    tidy(() => {
      logits(tuned, { rows })
    })
    expect(memory().numTensors).toBe(before)
    expect(bits(logits(tuned, { rows: [['one'], ['one'], ['one'], ['one']] }))).toEqual(
      bits(logits(tuned, { adapters: ['one'] })),
    )
  })

  it('says what cannot be', () => {
    const tuned = attach(network, [{ adapter: shift, at: 'blocks.*.attn' }], rng(1))
    expect(() => logits(tuned, { rows: [['shift'], [], [], []] })).toThrow(
      "blocks.0.attn: 'shift' acts around a attn, so it cannot differ from row to row",
    )
    expect(() => logits(tuned, { rows: [[], []] })).toThrow('rows: the batch has 4 rows, and adapters are named for 2')
    expect(() => logits(tuned, { rows: [[], [], [], []], adapters: [] })).toThrow('give one of them')
    const longer: Adapter<any> = {
      name: 'longer',
      init: () => ({ state: {} }),
      around: (next, x) =>
        pad(next(x), [
          [0, 0],
          [1, 0],
          [0, 0],
        ]),
    }
    const soft = attach(network, [{ adapter: longer, at: 'embed' }], rng(1))
    expect(() => logits(soft, { rows: [['longer'], [], [], []] })).toThrow(
      'embed: adapters give [1,6,8] to some rows and [3,5,8] to others',
    )
  })
})

describe('answers by adapters', () => {
  const prompts = [[1, 2, 3], [4, 5], [6, 7, 8, 9, 10], [2]]
  const rows = [['one'], [], ['two'], ['one', 'two']]
  it.each([
    ['weights', { adapter: low, at: 'blocks.*.attn.{q,v}' }, { adapter: moved, at: 'blocks.*.mlp.up' }],
    ['around', { adapter: shift, at: 'blocks.*.mlp' }, { adapter: low, at: 'embed' }],
    ['at the core', { adapter: prefix, at: 'blocks.*.attn.core' }, { adapter: low, at: 'head' }],
  ] as const)('%s: each prompt by its own is as if it were alone', async (_, first, second) => {
    const tuned = attach(
      network,
      [
        { ...first, name: 'one' },
        { ...second, name: 'two' },
      ],
      rng(5),
    )
    const options = { maxTokens: 8, ends: [0, 3] }
    const before = memory().numTensors
    for (const batch of [4, 3]) {
      const together = await complete(tuned, prompts, { ...options, rows, batch })
      const apart: Completion[] = []
      for (const [i, adapters] of rows.entries())
        apart.push(...(await complete(tuned, [prompts[i]!], { ...options, adapters })))
      expect(together.map((c) => c.ids)).toEqual(apart.map((c) => c.ids))
      together.forEach((c, i) => {
        c.logprobs.forEach((p, j) => {
          expect(p).toBeCloseTo(apart[i]!.logprobs[j]!, 4)
        })
      })
    }
    expect(memory().numTensors).toBe(before)
  })

  it('names are asked for each prompt', async () => {
    const tuned = attach(network, [], rng(5))
    await expect(complete(tuned, prompts, { rows: [[]] })).rejects.toThrow(
      'there are 4 prompts, and adapters are named for 1',
    )
  })

  it('a loss is measured by some of them', async () => {
    const tuned = attach(network, [{ adapter: low, at: 'blocks.*.attn.q' }], rng(5))
    const flat = (f: (i: number) => number): Int32Array => Int32Array.from({ length: B * T }, (_, i) => f(i))
    const batch = {
      ...{ shape: [B, T] as const, ids: ids.dataSync() as Int32Array, targets: flat((i) => i % 13) },
      ...{ positions: flat((i) => i % T), segments: flat(() => 1) },
    }
    const plain = await meanLoss(attach(network, [], rng(0)), {}, [batch])
    expect(await meanLoss(tuned, tuned.params, [batch], undefined, { adapters: [] })).toBe(plain)
    expect(await meanLoss(tuned, tuned.params, [batch])).not.toBe(plain)
  })
})
