import {
  attach,
  calibrate,
  contextOf,
  initContextOf,
  match,
  nextToken,
  sharedOf,
  stateOf,
  type TransformerConfig,
  type Tuned,
} from '@weftjs/model'
import type { Adapter, Batch, Network, Params, Rng, Seen, Site, Tensor } from '@weftjs/spec'
import {
  add,
  applyUpdates,
  backprop,
  countParams,
  dispose,
  div,
  keepParams,
  linear,
  mapParams,
  memory,
  mul,
  rng as newRng,
  sqrt,
  square,
  sub,
  tensor,
  tidy,
  zerosLike,
} from '@weftjs/tensor'
import { fromBytes, openSafetensors, toSafetensors } from '@weftjs/tensor/checkpoint'
import { packed } from '@weftjs/weight'
import { allFinite, type Check, distance, must, mustBeUnchanged, mustEqual, mustThrow, snapshot } from './check.ts'
import { type TinyLlamaOptions, tinyLlama } from './tiny-llama.ts'
import { toyCodec } from './toy-codec.ts'

export interface AdapterSuite {
  /** where the method lives: a glob over sites; linear layers of attention and MLP by default */
  readonly at?: string | readonly string[]
  /** before any step the model is what it was; false for a method that starts elsewhere, which is then checked too */
  readonly startsAsIdentity?: boolean
  /** it puts another matrix in the place of a packed one (a residual), which is rounded anew: there it starts near the model only */
  readonly repacks?: boolean
  /** numbers that train at a site, by the method's own formula; `sites` are all that the adapter is put on */
  readonly count?: (site: Site, sites: readonly Site[]) => number
  readonly tolerance?: number
  readonly steps?: number
  readonly lr?: number
  /** by how much the loss must fall over the steps, as a share of the first */
  readonly falls?: number
}

const KEYS = /^[a-z][a-zA-Z0-9]*$/

const batch: Batch = (() => {
  const [B, T] = [2, 8]
  const ids = Int32Array.from({ length: B * T }, (_, i) => (i * 7 + 3 * Math.floor(i / T)) % 24)
  const targets = Int32Array.from({ length: B * T }, (_, i) => (i % T === T - 1 ? -100 : ids[i + 1]!))
  const positions = Int32Array.from({ length: B * T }, (_, i) => i % T)
  return { shape: [B, T], ids, targets, positions, segments: new Int32Array(B * T).fill(1) }
})()
const inputs = (): { ids: Tensor } => ({ ids: tensor(batch.ids, [...batch.shape], 'int32') })

/** tensors of a network by name, parts of weights included */
const tensorsOf = ({ weights, vectors }: Network<object>): Params => ({
  ...vectors,
  ...Object.fromEntries(
    Object.entries(weights).flatMap(([n, w]) => Object.entries(w.parts).map(([p, t]) => [`${n}:${p}`, t] as const)),
  ),
})

/** The laws of an adapter, on a tiny Llama whose weights are dense, and again where they are packed. */
export const checkAdapter = (
  adapter: Adapter<any>,
  {
    at = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}',
    startsAsIdentity = true,
    repacks = false,
    count,
    tolerance = 2e-5,
    steps = 8,
    lr = 0.02,
    falls = 0.02,
  }: AdapterSuite = {},
): readonly Check[] => {
  const network = (options: TinyLlamaOptions = {}): Network<TransformerConfig> => tinyLlama(newRng(1), options)
  const bases: Readonly<Record<string, () => Network<TransformerConfig>>> = {
    dense: () => network(),
    packed: () => network({ keep: (w) => packed(toyCodec(), w) }),
  }
  /** what the batch shows of the network, for an adapter that asks */
  const look = async (base: Network<TransformerConfig>): Promise<Readonly<Record<string, Seen>>> =>
    adapter.calibrates ? calibrate(base, [batch], { statistics: adapter.calibrates, at }) : {}
  const tune = async (base: Network<TransformerConfig> = network(), seed = 2): Promise<Tuned> =>
    attach(base, [{ adapter, at }], newRng(seed), { seen: await look(base) })
  const logits = (tuned: Tuned, params: Params = tuned.params): Tensor => tuned.forward(params, inputs()).logits
  /** away from the start, where too much is zero to tell anything */
  const moved = ({ params }: Tuned): Params => {
    const r = newRng(3)
    return mapParams(params, (p, n) => add(p, r.fork(n).normal(p.shape, 0.1)))
  }
  const loss =
    (tuned: Tuned, noise?: Rng) =>
    (params: Params): ReturnType<typeof nextToken> =>
      nextToken(tuned.run(params, inputs(), { training: true, ...(noise && { rng: noise }) }), batch)
  /** Adam, ten lines, so that this package needs no other family */
  const descend = async (tuned: Tuned, visit: (step: number, loss: number) => void): Promise<Params> => {
    let params = tidy(() => keepParams(mapParams(tuned.params, (p) => add(p, 0))))
    let m = tidy(() => keepParams(mapParams(params, (p) => zerosLike(p))))
    let v = tidy(() => keepParams(mapParams(params, (p) => zerosLike(p))))
    for (let t = 1; t <= steps; t++) {
      const next = tidy(() => {
        const found = backprop(loss(tuned, newRng(4).fork(t)), params)
        const m1 = mapParams(found.grads, (g, n) => add(mul(m[n]!, 0.9), mul(g, 0.1)))
        const v1 = mapParams(found.grads, (g, n) => add(mul(v[n]!, 0.99), mul(square(g), 0.01)))
        const step = (n: string): Tensor =>
          div(mul(m1[n]!, -lr / (1 - 0.9 ** t)), add(sqrt(mul(v1[n]!, 1 / (1 - 0.99 ** t))), 1e-8))
        return {
          loss: found.loss,
          m: m1,
          v: v1,
          params: applyUpdates(
            params,
            mapParams(params, (_, n) => step(n)),
          ),
        }
      })
      dispose([...Object.values(params), ...Object.values(m), ...Object.values(v)])
      ;({ params, m, v } = next)
      const [value] = await next.loss.data()
      next.loss.dispose()
      visit(t, value!)
    }
    dispose([...Object.values(m), ...Object.values(v)])
    return params
  }

  const perBase = Object.entries(bases).flatMap(([format, base]): Check[] => [
    {
      name: startsAsIdentity
        ? `${format}: starts as the model that it adapts`
        : `${format}: does not start as the model, as it declares`,
      run: async () => {
        const net = base()
        const [a, b] = [logits(await tune(net)), logits(attach(net, [], newRng(0)))]
        if (startsAsIdentity)
          await mustEqual(a, b, 'logits before the first step', repacks && format === 'packed' ? 0.1 : tolerance)
        else {
          const d = distance(await a.data(), await b.data())
          must(d > tolerance, `logits differ by ${d.toExponential(1)} only: it does start as the identity, say so`)
        }
      },
    },
    {
      name: `${format}: the adapted weight applies as its dense form does`,
      run: async () => {
        if (!adapter.weight) return
        const tuned = await tune(base())
        const params = { ...tuned.constants, ...moved(tuned) }
        for (const b of tuned.bound) {
          const { site, base: own } = b
          if (!site.weight) continue
          const context = contextOf(site, { shared: sharedOf(b.name, params) })
          const w = adapter.weight(own ?? site.weight!, stateOf(b, params), context)
          must(w.shape.join() === site.weight!.shape.join(), `${site.name}: shape [${w.shape}]`)
          const x = newRng(5).normal([2, 3, w.shape[1]])
          await mustEqual(w.apply(x), linear(x, w.dense()), site.name, tolerance)
        }
      },
    },
    {
      name: `${format}: trains; the loss falls, the base stays bit by bit, and no tensor is left behind`,
      run: async () => {
        const net = base()
        const tuned = await tune(net)
        const [frozen, fixed, start] = [
          await snapshot(tensorsOf(net)),
          await snapshot(tuned.constants),
          await snapshot(tuned.params),
        ]
        const losses: number[] = []
        const tensors: number[] = []
        const params = await descend(tuned, (_, value) => {
          losses.push(value)
          tensors.push(memory().numTensors)
        })
        must(
          losses.every((l) => Number.isFinite(l)),
          `losses ${losses.join(', ')}`,
        )
        const [first, last] = [losses[0]!, losses.at(-1)!]
        must(last < first * (1 - falls), `the loss went from ${first.toFixed(4)} to ${last.toFixed(4)}`)
        must(new Set(tensors).size === 1, `tensors alive after each step: ${tensors.join(', ')}`)
        await mustBeUnchanged(tensorsOf(net), frozen, 'the base')
        await mustBeUnchanged(tuned.constants, fixed, 'what does not train')
        await mustBeUnchanged(tuned.params, start, 'the start')
        await allFinite(params, 'values')
      },
    },
  ])

  return [
    {
      name: 'has a name and at least one verb; its options are plain data',
      run: () => {
        must(/^[a-z][a-z0-9-]*$/.test(adapter.name), `name '${adapter.name}' is not in lower case`)
        must(
          Boolean(adapter.weight || adapter.vector || adapter.around || adapter.attend),
          'none of weight, vector, around, attend',
        )
        const { options = {} } = adapter
        must(
          JSON.stringify(JSON.parse(JSON.stringify(options))) === JSON.stringify(options),
          'options do not survive JSON',
        )
      },
    },
    {
      name: 'the same seed gives the same start',
      run: async () => {
        const net = network()
        const [a, b] = [await tune(net), await tune(net)]
        must(Object.keys(a.params).join() === Object.keys(b.params).join(), 'names differ')
        const first = await snapshot({ ...a.params, ...a.constants })
        await mustBeUnchanged({ ...b.params, ...b.constants }, first, 'the second start')
      },
    },
    {
      name: 'state has plain keys, and what trains is part of it',
      run: async () => {
        const net = network()
        const rng = newRng(2)
        const seen = await look(net)
        const { bound } = await tune(net)
        for (const { site } of bound) {
          const { state, trains } = adapter.init(
            site,
            initContextOf(site, { rng, sites: bound.map((b) => b.site), seen: (other = site) => seen[other.name]! }),
          )!
          for (const key of Object.keys(state)) must(KEYS.test(key), `state key '${key}'`)
          for (const key of trains ?? []) must(key in state, `trains '${String(key)}', which is not in its state`)
        }
      },
    },
    {
      name: 'trains as many numbers as its formula says',
      run: async () => {
        if (!count) return
        const tuned = await tune()
        const sites = match(tuned.sites, at)
        const want = tuned.bound.reduce((n, { site }) => n + count(site, sites), 0)
        const own = Object.entries(tuned.params).filter(([n]) => tuned.bound.some((b) => n.startsWith(`${b.prefix}.`)))
        const found = countParams(Object.fromEntries(own))
        must(found === want, `${found} numbers train, the formula says ${want}`)
      },
    },
    ...perBase,
    {
      name: 'folded, the network gives what the adapted one gives',
      run: async () => {
        const tuned = await tune()
        const params = moved(tuned)
        if (adapter.around || adapter.attend || !(adapter.weight || adapter.vector)) {
          mustThrow(() => tuned.fold(params), 'an adapter that acts around a module was folded')
          return
        }
        const folded = attach(tuned.fold(params), [], newRng(0))
        await mustEqual(logits(folded, {}), logits(tuned, params), 'logits', tolerance)
      },
    },
    {
      name: 'every trained tensor has a finite gradient, and one that is not zero',
      run: async () => {
        const tuned = await tune()
        for (const [what, params] of [
          ['at the start', tuned.params],
          ['later', moved(tuned)],
        ] as const) {
          const { grads } = backprop(loss(tuned), params)
          await allFinite(grads, `gradient ${what}`)
          if (what === 'later')
            for (const [name, g] of Object.entries(grads))
              must(
                (await g.data()).some((v) => v !== 0),
                `${name}: no gradient reaches it`,
              )
        }
      },
    },
    {
      name: 'evaluation repeats; training repeats under the same noise',
      run: async () => {
        const tuned = await tune()
        const params = moved(tuned)
        await mustEqual(logits(tuned, params), logits(tuned, params), 'two evaluations', 0)
        const noisy = (): Tensor => tuned.forward(params, inputs(), { training: true, rng: newRng(9) }).logits
        await mustEqual(noisy(), noisy(), 'two training passes with one seed', 0)
      },
    },
    {
      name: 'saved and loaded, it is the same',
      run: async () => {
        const tuned = await tune()
        const params = moved(tuned)
        const bytes: Record<string, { dtype: 'F32'; shape: number[]; data: Uint8Array }> = {}
        for (const [name, t] of Object.entries(params)) {
          must(t.dtype === 'float32', `${name}: trains as ${t.dtype}`)
          const values = (await t.data()) as Float32Array
          bytes[name] = {
            dtype: 'F32',
            shape: t.shape,
            data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
          }
        }
        const file = await openSafetensors(fromBytes(toSafetensors(bytes)))
        const read: Record<string, Tensor> = {}
        for (const name of file.names) read[name] = tensor(await file.floats(name), [...file.entry(name).shape])
        // a stranger attaches it anew, from its options, under the seed of the run
        await mustEqual(logits(await tune(), read), logits(tuned, params), 'logits', 0)
      },
    },
    {
      name: 'its parameters matter',
      run: async () => {
        const net = network()
        const tuned = await tune(net)
        const params = moved(tuned)
        const d = sub(logits(tuned, params), logits(attach(net, [], newRng(0)), {}))
        must(
          (await d.data()).some((v) => v !== 0),
          'moved parameters change nothing',
        )
      },
    },
  ]
}
