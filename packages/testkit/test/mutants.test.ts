import type { Adapter, Codec, Merge, Params, Stage, Tensor, Tensor2D, Transform, Weight } from '@weftjs/spec'
import {
  add,
  cast,
  cpu,
  div,
  keep,
  linear,
  mapParams,
  matMul,
  mul,
  ones,
  reshape,
  rng,
  scalar,
  sqrt,
  square,
  stopGradient,
  sub,
  sum,
  zeros,
  zerosLike,
} from '@weftjs/tensor'
import { dense, lowRank, sum as total } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import {
  type Check,
  checkAdapter,
  checkCodec,
  checkMerge,
  checkStage,
  checkTransform,
  checkWeight,
  factories,
  failures,
  toyCodec,
} from '../src/index.ts'

await cpu()

/** a sound method passes; each way of breaking it is caught by a check whose name says what is wrong */
const catches = (
  what: string,
  sound: () => readonly Check[],
  mutants: Readonly<Record<string, readonly [caught: RegExp, checks: () => readonly Check[]]>>,
): void => {
  describe(what, () => {
    it('passes when it is sound', async () => {
      expect(await failures(sound())).toEqual([])
    })
    it.each(Object.entries(mutants))('is caught when it %s', async (_, [caught, checks]) => {
      const found = await failures(checks().filter((c) => caught.test(c.name)))
      expect(found.map((f) => f.name).join('\n')).toMatch(caught)
    })
  })
}

// ---- weights
const m = (r = rng(1)): Tensor2D => r.normal([5, 4]) as Tensor2D
const weight = (over: (w: Weight) => Partial<Weight>) => () =>
  checkWeight((r) => {
    const w = dense(m(r))
    return { ...w, ...over(w) }
  })
catches(
  'a weight',
  weight(() => ({})),
  {
    'transposes its product': [
      /apply\(x\) is/,
      () =>
        checkWeight((r) => {
          const w = dense(r.normal([4, 4]) as Tensor2D)
          return { ...w, apply: (x) => reshape(matMul(reshape(x, [-1, 4]), w.dense()), x.shape) }
        }),
    ],
    'forgets the leading axes': [
      /apply\(x\) is/,
      weight((w) => ({ apply: (x) => linear(reshape(x, [-1, 4]), w.dense()) })),
    ],
    'states another shape': [/the shape/, weight(() => ({ shape: [4, 5] }))],
    'stops the gradient of x': [/gradient of x/, weight((w) => ({ apply: (x) => w.apply(stopGradient(x)) }))],
    'stops the gradient of its matrix': [
      /gradients of the parts/,
      weight((w) => ({ apply: (x) => linear(x, stopGradient(w.dense())) })),
    ],
    'gives columns for rows': [/rows are rows/, weight((w) => ({ rows: (i) => mul(w.rows!(i), 2) }))],
    'keeps something else in like': [
      /like/,
      weight((w) => ({ like: (v) => dense(mul(v, 1.1) as Tensor2D), shape: w.shape })),
    ],
    'keeps a tensor at each use': [/leaves no tensor/, weight((w) => ({ apply: (x) => keep(w.apply(x)) }))],
    'lists no parts': [/leaves no tensor/, weight(() => ({ parts: {} }))],
  },
)

// ---- adapters
type S = { a: Tensor2D; b: Tensor2D }
const base: Adapter<S> = {
  name: 'toy',
  init: ({ in: n, out }, { rng }) => ({
    state: { a: rng.normal([2, n], 0.3) as Tensor2D, b: zeros([out, 2]) as Tensor2D },
  }),
  weight: (w, { a, b }) => total(w, lowRank(b, a)),
}
const count = ({ in: n, out }: { in: number; out: number }): number => 2 * (n + out)
const adapter = (over: Partial<Adapter<S>>) => () => checkAdapter({ ...base, ...over }, { count, steps: 5 })
let calls = 0
catches('an adapter', adapter({}), {
  'does not start as the identity': [
    /starts as the model/,
    adapter({ init: (s, c) => ({ state: { ...base.init(s, c)!.state, b: ones([s.out, 2]) as Tensor2D } }) }),
  ],
  'starts as the identity and denies it': [
    /does not start/,
    () => checkAdapter(base, { startsAsIdentity: false, steps: 2 }),
  ],
  'draws from another source than its rng': [
    /same seed/,
    adapter({
      init: (s, c) => ({ state: { ...base.init(s, c)!.state, a: rng(calls++).normal([2, s.in]) as Tensor2D } }),
    }),
  ],
  'applies another matrix than it folds': [
    /applies as its dense|folded/,
    adapter({
      weight: (w, { a, b }) => {
        const sound = total(w, lowRank(b, a))
        return { ...sound, dense: () => total(w, lowRank(mul(b, 1.5) as Tensor2D, a)).dense() }
      },
    }),
  ],
  'has a parameter that no gradient reaches': [
    /finite gradient/,
    adapter({ weight: (w, { a, b }) => total(w, lowRank(b, stopGradient(a))) }),
  ],
  'trains more than its formula says': [/formula/, () => checkAdapter(base, { count: (s) => count(s) - 1, steps: 2 })],
  'does nothing': [/parameters matter|loss falls/, adapter({ weight: (w) => w })],
  'goes uphill': [
    /loss falls/,
    adapter({
      weight: (w, { a, b }) => total(w, lowRank(b, a), lowRank(mul(stopGradient(b), -2) as Tensor2D, stopGradient(a))),
    }),
  ],
  'writes into the base': [
    /the base/,
    adapter({
      init: (s, c) => {
        for (const t of Object.values(s.weight!.parts)) t.dataSync()[0] = 9
        return base.init(s, c)
      },
      weight: (w, s) => {
        for (const t of Object.values(w.parts)) t.dataSync()[0]! += 1
        return base.weight!(w, s, {} as never)
      },
    }),
  ],
  'keeps a tensor at each step': [
    /no tensor is left/,
    adapter({ weight: (w, { a, b }) => total(w, lowRank(keep(mul(b, 1)) as Tensor2D, a)) }),
  ],
  'draws noise in evaluation': [
    /evaluation repeats/,
    adapter({
      weight: (w, { a, b }) => total(w, lowRank(mul(b, add(rng(calls++).uniform([1]), 0.5)) as Tensor2D, a)),
    }),
  ],
  'names a trained tensor that it does not have': [
    /plain keys/,
    adapter({ init: (s, c) => ({ ...base.init(s, c)!, trains: ['a', 'b', 'z' as 'a'] }) }),
  ],
  'hides state in a closure': [
    /saved and loaded/,
    () => {
      let n = 0
      return checkAdapter(
        { ...base, weight: (w, { a, b }) => total(w, lowRank(mul(b, 1 + n++ / 10) as Tensor2D, a)) },
        { steps: 2 },
      )
    },
  ],
  'has a name for a class': [/has a name/, adapter({ name: 'MyAdapter' })],
  'divides by a norm that is zero': [
    /finite|starts/,
    adapter({
      weight: (w, { a, b }) => total(w, lowRank(div(b, sqrt(sum(square(b)))) as Tensor2D, a)),
    }),
  ],
})

// ---- codecs
type P = { q: Tensor; scale: Tensor }
const sound = toyCodec()
const codec =
  (over: Partial<Codec<P>>, options = {}) =>
  () =>
    checkCodec({ ...sound, ...over } as Codec, { bits: 33, error: 0.02, again: 1e-5, ...options })
catches('a codec', codec({}), {
  'takes more bits than it says': [/bits a number/, codec({}, { bits: 8 })],
  'loses more than it says': [/error on N/, codec({}, { error: 1e-4 })],
  'divides by the scale of a row of zeros': [
    /stay finite/,
    codec({
      encode: (w) => {
        const scale = div(sum(square(w), 1, true), 127)
        return { q: cast(div(w, scale), 'float32'), scale }
      },
    }),
  ],
  'gives back another shape': [
    /shape and dtype/,
    codec({ decode: (p, s) => reshape(sound.decode(p as P, s), [s[1], s[0]]) as Tensor2D }),
  ],
  'drifts when stored again': [
    /idempotent/,
    codec({ decode: (p, s) => mul(sound.decode(p as P, s), 0.999) as Tensor2D }),
  ],
  'multiplies by something else': [
    /multiplies/,
    codec({ matmul: (x, p, s) => mul(linear(x, sound.decode(p as P, s)), 1.01) }),
  ],
  'looks up other rows': [/multiplies/, codec({ rows: (_, s, i) => mul(zeros([...i.shape, s[1]]), scalar(1)) })],
  'writes into what it encodes': [
    /deterministic/,
    codec({
      encode: (w) => {
        w.dataSync()[0] = 0
        return sound.encode(w)
      },
    }),
  ],
  'encodes at random': [
    /deterministic/,
    codec({ encode: (w) => sound.encode(add(w, rng(calls++).normal(w.shape, 0.1)) as Tensor2D) }),
  ],
  'leaves tensors behind': [/nothing is left/, codec({ decode: (p, s) => keep(sound.decode(p as P, s)) })],
  'loses the sign': [/sign|error on N/, codec({ decode: (p, s) => sqrt(square(sound.decode(p as P, s))) as Tensor2D })],
})

// ---- transforms
type St = { b: Params | null }
const momentum = (over: Partial<Transform<St>> = {}): Transform<St> => ({
  init: () => ({ b: null }),
  update: (grads, { b }) => {
    const next = mapParams(grads, (g, n) => (b ? add(mul(b[n]!, 0.8), g) : mul(g, 1)))
    return [mapParams(next, (t) => mul(t, -0.005)), { b: next }]
  },
  ...over,
})
const transform =
  (over: () => Partial<Transform<any>> = () => ({})) =>
  () =>
    checkTransform(() => momentum(over()))
catches('a transform', transform(), {
  'goes uphill': [/goes down/, transform(() => ({ update: (g, s) => [mapParams(g, (t) => mul(t, 0.01)), s] }))],
  'does nothing': [/goes down/, transform(() => ({ update: (g, s) => [mapParams(g, (t) => zerosLike(t)), s] }))],
  'divides by the norm of a zero gradient': [
    /zero gradients/,
    transform(() => ({
      update: (g, s) => [mapParams(g, (t) => mul(div(t, sqrt(sum(square(t)))), -0.05)), s],
    })),
  ],
  'overflows on large gradients': [
    /huge/,
    transform(() => ({
      update: (g, s) => [mapParams(g, (t) => mul(div(t, sqrt(square(square(square(t))))), -0.05)), s],
    })),
  ],
  'counts in a closure': [
    /no state of its own|state survives/,
    () => {
      let n = 0
      return checkTransform(() =>
        momentum({ update: (g, s) => [mapParams(g, (t) => mul(t, -0.01 / (1 + 0.1 * n++))), s] }),
      )
    },
  ],
  'keeps a class in its state': [
    /survives a file/,
    transform(() => ({
      init: () => ({ b: null, at: new Map() }),
      update: (g, s) => [mapParams(g, (t) => mul(t, -0.01)), s],
    })),
  ],
  'keeps a function in its state': [
    /survives a file/,
    transform(() => ({
      init: () => ({ b: null, f: () => 1 }),
      update: (g, s) => [mapParams(g, (t) => mul(t, -0.01)), s],
    })),
  ],
  'changes the parameters itself': [
    /changes no parameter/,
    transform(() => ({
      update: (g, s, p) => {
        for (const t of Object.values(p)) t.dataSync()[0]! += 1
        return [mapParams(g, (t) => mul(t, -0.01)), s]
      },
    })),
  ],
  'forgets a parameter': [
    /one finite update/,
    transform(() => ({
      update: (g, s) => {
        const [first, ...rest] = Object.entries(mapParams(g, (t) => mul(t, -0.01)))
        void first
        return [Object.fromEntries(rest), s]
      },
    })),
  ],
  'gives an update of another shape': [
    /one finite update/,
    transform(() => ({ update: (g, s) => [mapParams(g, (t) => mul(sum(t), -0.001)), s] })),
  ],
  'keeps tensors at each step': [
    /stays flat/,
    transform(() => ({ update: (g, s) => [mapParams(g, (t) => mul(keep(mul(t, 1)), -0.01)), s] })),
  ],
  'fails with nothing to train': [
    /nothing to train/,
    transform(() => ({
      update: (g, s) => [
        { ...mapParams(g, (t) => mul(t, -0.01)), ...(Object.keys(g).length ? {} : { x: scalar(0) }) },
        s,
      ],
    })),
  ],
})

// ---- merges
const linearMerge: Merge = (tensors, { weights, base }) =>
  tensors.length ? tensors.map((t, i) => mul(t, weights[i]!)).reduce((a, b) => add(a, b)) : base!
const merge =
  (f: Merge, options = {}) =>
  () =>
    checkMerge(f, options)
catches('a merge', merge(linearMerge), {
  'forgets the weights': [/equal models/, merge((t, c) => (t.length ? t.reduce((a, b) => add(a, b)) : c.base!))],
  'favours the first model': [
    /order/,
    merge((t, c) => (t.length ? add(linearMerge(t, c), mul(sub(t[0]!, t.at(-1)!), 0.1)) : c.base!)),
  ],
  'fails without models': [/no models/, merge((t, c) => (t.length ? linearMerge(t, c) : zerosLike(c.base!)))],
  'draws from another source than its rng': [
    /same seed/,
    merge((t, c) => (t.length ? add(linearMerge(t, c), rng(calls++).normal(t[0]!.shape, 1e-3)) : c.base!)),
  ],
  'needs a base and does not say so': [
    /without a base/,
    merge((t, c) => (t.length ? add(linearMerge(t, c), mul(c.base!, 0)) : c.base!)),
  ],
  'claims to need a base and does not': [/needs a base/, merge(linearMerge, { needsBase: true })],
  'writes into a model': [
    /changes nothing/,
    merge((t, c) => {
      if (t[0]) t[0].dataSync()[0] = 5
      return linearMerge(t, c)
    }),
  ],
  'gives another shape': [/same shape/, merge((t, c) => (t.length ? reshape(linearMerge(t, c), [-1]) : c.base!))],
  'adds a constant': [/equal the base/, merge((t, c) => (t.length ? add(linearMerge(t, c), 0.1) : c.base!))],
  'divides by zero': [
    /zeros/,
    merge((t, c) => (t.length ? mul(linearMerge(t, c), div(sum(t[0]!), sum(t[0]!))) : c.base!)),
  ],
  'leaves tensors behind': [/changes nothing/, merge((t, c) => (t.length ? keep(mul(linearMerge(t, c), 1)) : c.base!))],
})

// ---- stages
const double: Stage<number> = (items) => ({
  async *[Symbol.asyncIterator]() {
    for await (const x of items) yield 2 * x
  },
})
const items = Array.from({ length: 20 }, (_, i) => i)
const stage =
  (make: () => Stage<any, any>, options = {}) =>
  () =>
    checkStage(make, { items, ...options })
catches(
  'a stage',
  stage(() => double),
  {
    'reads its source when it is made': [
      /before it is asked/,
      stage(() => (source) => {
        const i = source[Symbol.asyncIterator]()
        void i.next()
        return double(source)
      }),
    ],
    'reads everything first': [
      /no more than/,
      stage(() => (source) => ({
        async *[Symbol.asyncIterator]() {
          const all: number[] = []
          for await (const x of source) all.push(x as number)
          yield* all
        },
      })),
    ],
    'leaves its source open': [
      /consumer stops/,
      stage(() => (source) => ({
        async *[Symbol.asyncIterator]() {
          const i = source[Symbol.asyncIterator]()
          for (let x = await i.next(); !x.done; x = await i.next()) yield x.value
        },
      })),
    ],
    'swallows an error': [
      /error on/,
      stage(() => (source) => ({
        async *[Symbol.asyncIterator]() {
          try {
            yield* double(source as AsyncIterable<number>)
          } catch {}
        },
      })),
    ],
    'stumbles over an empty source': [
      /empty source/,
      stage(() => (source) => ({
        async *[Symbol.asyncIterator]() {
          let n = 0
          for await (const x of source) {
            n++
            yield x
          }
          if (!n) throw new Error('nothing there')
        },
      })),
    ],
    'remembers the run before': [
      /the same again/,
      stage(() => {
        const seen = new Set<number>()
        return (source) => ({
          async *[Symbol.asyncIterator]() {
            for await (const x of source as AsyncIterable<number>) {
              if (!seen.has(x)) yield x
              seen.add(x)
            }
          },
        })
      }),
    ],
    'changes its items': [
      /as they are/,
      () =>
        checkStage(
          () => (source) => ({
            async *[Symbol.asyncIterator]() {
              for await (const x of source as AsyncIterable<{ n: number }>) yield x.n++
            },
          }),
          { items: items.map((n) => ({ n })) },
        ),
    ],
    'stops before the end': [
      /at the end/,
      stage(() => (source) => ({
        async *[Symbol.asyncIterator]() {
          let n = 0
          for await (const x of source)
            if (n++ < 5) yield x
            else return
        },
      })),
    ],
  },
)

describe('factories', () => {
  it('finds methods, and refuses a file that is neither method nor helper', () => {
    const modules = { '../src/index.ts': {}, '../src/kv-quant.ts': { kvQuant: () => 1 }, '../src/deep.ts': { x: 1 } }
    expect(factories(modules, ['deep']).map((f) => [f.name, f.factory()])).toEqual([['kv-quant', 1]])
    expect(() => factories(modules)).toThrow("deep.ts: exports no function 'deep'")
    expect(() => factories(modules, ['deep', 'gone'])).toThrow('gone: listed as a helper')
  })
})
