import type { Attention, Network, Params, Rng, RunContext, Scalar, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { add, keep, recompute, sub, tidy } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import {
  type Attachment,
  type AttachOptions,
  type Binding,
  type Bound,
  basesOf,
  bind,
  type Chosen,
  contextOf,
  group,
  sharedOf,
  stateOf,
} from './bind.ts'
import { byRows, type Group, groupRows, spread, take, takeInputs } from './by-rows.ts'
import type { TransformerConfig } from './config.ts'
import { balancing } from './experts.ts'
import { type Cache, firstKeys, type Hooks, type Inputs, type Next, transformer } from './transformer.ts'

export interface ForwardOptions {
  readonly cache?: Cache
  readonly training?: boolean
  /** noise of this pass (dropout), where training */
  readonly rng?: Rng
  /** keep only what goes into each block for the backward pass, which runs the block again */
  readonly recompute?: boolean
  /**
   * Names of the attachments that act in this pass, all by default; what trains whole goes by the name `whole`. `[]` is the
   * network as it was.
   */
  readonly adapters?: readonly string[]
  /** the same for each row of the batch: `[['fr'], ['de'], []]` */
  readonly rows?: readonly (readonly string[])[]
  /**
   * Factor of the load-balancing loss of a mixture of experts, which becomes part of the penalty. By default the config's
   * (`router_aux_loss_coef`) while training where the config asks for it (`output_router_logits`), else 0.
   */
  readonly balance?: number
}

export interface Pass {
  /** [B, T, D] after the last norm; the logits themselves where an adapter is wrapped around the whole model */
  readonly hidden: Tensor
  /** [..., V] */
  head(hidden: Tensor): Tensor
  /** the head as a plain matrix [V, D], where nothing but a weight acts there: the way to losses that never make all logits */
  readonly headWeight: Weight | undefined
  /** c·tanh(logits/c), which `head` applies and a loss on `headWeight` must (Gemma 2) */
  readonly softcap: number | undefined
  /** what adapters asked to add to the loss */
  readonly penalty: Scalar | undefined
}

/** A network with adapters: `params` is exactly what trains, `constants` what is saved with it but held fixed. */
export interface Tuned extends Binding {
  run(params: Params, inputs: Inputs, options?: ForwardOptions): Pass
  /** ids [B, T] → logits [B, T, V] */
  forward(params: Params, inputs: Inputs, options?: ForwardOptions): { logits: Tensor }
  /** the network with every weight adapter folded in, in the format that each base has */
  fold(params: Params, options?: FoldOptions): Network<TransformerConfig>
}
export interface FoldOptions extends Pick<ForwardOptions, 'adapters'> {
  /** sees each matrix that is folded, before it goes into its format */
  watch?(site: string, folded: Tensor2D): void
}

/** is a name that of a site or of something below it? */
const within = (name: string, site: string): boolean => name === site || name.startsWith(`${site}.`)

/** Put adapters on a network; the one place where methods meet a model. The network itself is never changed. */
export const attach = (
  network: Network<TransformerConfig>,
  attachments: readonly Attachment[],
  rng: Rng,
  options: AttachOptions = {},
): Tuned => tunedOf(bind(network, attachments, rng, options))

/** The passes of a network with what is bound to it. @throws Error where two adapters cannot share a site */
export const tunedOf = (binding: Binding): Tuned => {
  const { network, bound, constants } = binding
  const everything = group(bound)
  basesOf(everything) // complains

  const made = new WeakMap<Tensor, Weight>()
  /** the same weight for the same tensor, so that rows of a batch that share it are seen to */
  const denseOf = (t: Tensor): Weight => {
    const weight = made.get(t) ?? dense(t as Tensor2D)
    made.set(t, weight)
    return weight
  }
  const baseOf = (name: string, values: Params, bases: ReadonlyMap<string, Weight>): Weight => {
    const own =
      values[name] ?? (name === 'head' && network.config.tied && !network.weights['head'] ? values['embed'] : undefined)
    return own ? denseOf(own) : (bases.get(name) ?? baseWeight(network, name))
  }
  /** those of `adapters`, and the bases that they put in place of the network's */
  const chosen = (adapters: readonly string[] | undefined): Chosen => {
    if (!adapters) return { bySite: everything, bases: basesOf(everything), whole: true }
    const odd = adapters.find((n) => n !== 'whole' && !bound.some((b) => b.name === n))
    if (odd !== undefined)
      throw new Error(
        `adapters: there is no '${odd}' here; there are ${[...new Set(bound.map((b) => b.name)), 'whole'].join(', ')}`,
      )
    const bySite = group(bound.filter((b) => adapters.includes(b.name)))
    return { bySite, bases: basesOf(bySite), whole: adapters.includes('whole') }
  }

  /** a vector of the network as adapters at its site make it */
  const vectorWith = (
    name: string,
    own: Tensor | undefined,
    bySite: Chosen['bySite'],
    of: (b: Bound) => { state: Params; context: RunContext },
  ): Tensor | undefined => {
    const which = name.endsWith('.bias') ? 'bias' : 'scale'
    const acting = bySite.get(which === 'bias' ? name.slice(0, -'.bias'.length) : name)?.filter((b) => b.adapter.vector)
    if (!acting?.length || (which === 'scale' && !own)) return own
    const offset = which === 'scale' ? network.config.normOffset : 0
    const made = acting.reduce<Tensor | undefined>(
      (t, b) => b.adapter.vector!(which, t, of(b).state, of(b).context),
      offset ? add(own!, offset) : own,
    )
    return offset && made ? sub(made, offset) : made
  }

  const run: Tuned['run'] = (
    values,
    inputs,
    { cache, training = false, rng: noise, recompute: again = false, adapters, rows, balance: factor } = {},
  ) => {
    if (rows && adapters)
      throw new Error('adapters and rows: one names them for the batch, the other for each row; give one of them')
    const count = (inputs['ids'] ?? inputs['pixels'])?.shape[0]
    if (rows && rows.length !== count)
      throw new Error(
        `rows: the batch has ${count} rows, and adapters are named for ${rows.length}; name them for each`,
      )
    const past = cache?.length ?? 0
    let beside = false
    const lanes: Cache | undefined = cache && {
      get length() {
        return cache.length
      },
      extend: (layer, k, v) => cache.extend(beside ? `aside.${layer}` : layer, k, v),
    }
    let given = inputs
    let penalty: Scalar | undefined
    const all = { ...constants, ...values }
    const every: Map<Bound, { state: Params; context: RunContext }>[] = []
    const scratches: Map<string, Tensor>[] = []
    const common = new Map<string, Params>()
    const sharedBy = (name: string): Params => {
      if (!common.has(name)) common.set(name, sharedOf(name, all))
      return common.get(name)!
    }
    type Of = (b: Bound) => { state: Params; context: RunContext }
    /** what adapters are given in this pass, or for some rows of it */
    const contextsFor = (part?: readonly number[], adapters: readonly string[] = []): Of => {
      const scratch = new Map<string, Tensor>()
      const contexts = new Map<Bound, { state: Params; context: RunContext }>()
      every.push(contexts)
      scratches.push(scratch)
      return (b) => {
        let found = contexts.get(b)
        if (!found) {
          const state = stateOf(b, all)
          const alone = (what: string): void => {
            if (again && b.site.layer >= 0)
              throw new Error(`${b.prefix}: ${what}, which a block that is computed again cannot; turn recompute off`)
          }
          const own = given
          const context: RunContext = {
            site: b.site,
            training,
            get inputs() {
              return part ? takeInputs(own, part, count!) : own
            },
            shared: sharedBy(b.name),
            get scratch() {
              alone('shares tensors with other places')
              return scratch
            },
            ...(noise && { rng: noise.fork(b.prefix) }),
            get inner() {
              return Object.keys(values)
                .filter((n) => b.site.kind === 'model' || within(n, b.site.name))
                .map((n) => values[n]!)
            },
            penalty: (term) => {
              alone('adds to the loss')
              penalty = penalty ? (add(penalty, term) as Scalar) : term
            },
            ...(cache && {
              past,
              aside: (pass) => {
                beside = true
                try {
                  return pass()
                } finally {
                  beside = false
                }
              },
              extend: (name, k, v) => {
                // the cache has a place for every row of the batch
                const [all, own] = part
                  ? [(x: Tensor) => spread(x, part, count!), (x: Tensor) => take(x, part)]
                  : [(x: Tensor) => x, (x: Tensor) => x]
                const whose = part ? `.${[...adapters].sort().join('+')}` : ''
                const held = cache.extend(`${b.prefix}.${name}${whose}`, all(k), all(v))
                return { k: own(firstKeys(held.k, held.keys)), v: own(firstKeys(held.v, held.keys)) }
              },
            }),
          }
          found = { state, context }
          contexts.set(b, found)
        }
        return found
      }
    }
    /** each run of a block begins with the same noise, and with inputs that still exist */
    const twice: NonNullable<Hooks['block']> = (site, make, shared) => (x) => {
      const own = bound.filter((b) => within(b.site.name, site)).map((b) => `${b.name}.shared`)
      const inner = Object.keys(values).filter((n) => within(n, site) || own.some((shared) => within(n, shared)))
      const block = (x: Tensor, held: { shared: typeof shared; inputs: Inputs }): Tensor => {
        for (const b of bound) if (within(b.site.name, site)) for (const contexts of every) contexts.delete(b)
        given = held.inputs
        return make(held.shared)(x)
      }
      return recompute(
        block,
        x,
        inner.map((n) => values[n]!),
        { shared, inputs },
      )
    }
    const hooksOf = ({ bySite, bases, whole }: Chosen, of: Of): Hooks => ({
      vector: (name) => vectorWith(name, (whole ? values[name] : undefined) ?? network.vectors[name], bySite, of),
      weight: (name) => {
        let weight = baseOf(name, whole ? values : {}, bases)
        for (const b of bySite.get(name) ?? []) {
          const { state, context } = of(b)
          weight = b.adapter.weight?.(weight, state, context) ?? weight
        }
        return weight
      },
      around: (name, next) =>
        (bySite.get(name) ?? []).reduce<Next>((inner, b) => {
          if (!b.adapter.around) return inner
          const { state, context } = of(b)
          return (x) => b.adapter.around!(inner, x, state, context)
        }, next),
      attend: (name, next) =>
        (bySite.get(name) ?? []).reduce<(x: Attention) => Tensor>((inner, b) => {
          if (!b.adapter.attend) return inner
          const { state, context } = of(b)
          return (x) => b.adapter.attend!(inner, x, state, context)
        }, next),
      ...(again && !cache && { block: twice }),
      carried: () => [...scratches.flatMap((s) => [...s.values()]), ...(penalty ? [penalty] : [])],
      untouched: (block) =>
        ![...bySite].some(
          ([site, list]) => within(site, block) && list.some((b) => b.adapter.around || b.adapter.attend),
        ),
    })
    const groups = rows
      ? groupRows(rows).map((g): Group => {
          const own = chosen(g.adapters)
          return { ...g, chosen: own, hooks: hooksOf(own, contextsFor(g.rows, g.adapters)) }
        })
      : undefined
    const active = groups?.map((g) => g.chosen) ?? [chosen(adapters)]
    const hooks = groups ? byRows(groups) : hooksOf(active[0]!, contextsFor())
    const balance = balancing(network.config, { factor, training, again, inputs })
    const { hidden, head } = transformer(network.config, balance ? { ...hooks, ...balance.with(hooks) } : hooks, lanes)
    // read when the loss is made: the head, too, may add to it
    const withPenalty = (pass: Omit<Pass, 'penalty'>): Pass => ({
      ...pass,
      get penalty() {
        const load = balance?.penalty()
        return load && penalty ? (add(load, penalty) as Scalar) : (load ?? penalty)
      },
    })
    const wrapped = (site: string): boolean =>
      active.some(({ bySite }) => bySite.get(site)?.some((b) => b.adapter.around))
    if (wrapped('model')) {
      // ids → logits as one: what comes out has passed the head already
      const key = network.config.input === 'tokens' ? 'ids' : 'pixels'
      const whole = hooks.around('model', (x) => head(hidden({ ...inputs, [key]: x })))
      return withPenalty({ hidden: whole(inputs[key]!), head: (x) => x, headWeight: undefined, softcap: undefined })
    }
    const plain = !wrapped('head') && !hooks.vector('head.bias') && network.config.output === 'causal'
    const headWeight = plain ? hooks.weight('head') : undefined
    return withPenalty({
      hidden: hidden(inputs),
      head,
      headWeight: headWeight?.format === 'rows' ? undefined : headWeight,
      softcap: network.config.logitSoftcap,
    })
  }

  return {
    ...binding,
    run,
    forward: (values, inputs, options) => {
      const { hidden, head } = run(values, inputs, options)
      return { logits: head(hidden) }
    },
    fold: (given, { adapters, watch } = {}) => {
      const all = { ...constants, ...given }
      const { bySite, bases, whole } = chosen(adapters)
      const values = whole ? given : {}
      const weights: Record<string, Weight> = { ...network.weights }
      for (const name of Object.keys(values)) if (name in weights) weights[name] = dense(values[name] as Tensor2D)
      const vectors: Record<string, Tensor> = { ...network.vectors }
      for (const name of Object.keys(values)) if (name in vectors) vectors[name] = values[name]!
      for (const [name, list] of bySite) {
        const stuck = list.find(
          ({ adapter: a }) => a.around || a.attend || !(list[0]!.site.weight ? a.weight || a.vector : a.vector),
        )
        if (stuck)
          throw new Error(
            `${name}: '${stuck.adapter.name}' acts around the module, not on its weight, so it cannot be folded`,
          )
        const of = (b: Bound): { state: Params; context: RunContext } => ({
          state: stateOf(b, all),
          context: contextOf(b.site, { shared: sharedOf(b.name, all) }),
        })
        for (const vector of [name, `${name}.bias`])
          tidy(() => {
            const own = vectors[vector]
            const made = vectorWith(vector, own, bySite, of)
            if (made && made !== own) vectors[vector] = keep(made)
          })
        if (!list.some((b) => b.adapter.weight && b.site.weight)) continue
        const base = baseOf(name, values, bases)
        weights[name] = tidy(() => {
          const adapted = list.reduce((w, b) => b.adapter.weight?.(w, of(b).state, of(b).context) ?? w, base)
          const matrix = adapted.dense() // [out, in]
          watch?.(name, matrix)
          const folded = base.like(matrix)
          for (const t of Object.values(folded.parts)) keep(t)
          return folded as never
        }) as unknown as Weight
      }
      // an adapter of the embedding leaves the head that shares its matrix as it is: the two part
      if (network.config.tied && bySite.has('embed') && !weights['head'])
        weights['head'] = baseOf('head', values, bases)
      const untied = network.config.tied && weights['head'] !== undefined
      return { config: untied ? { ...network.config, tied: false } : network.config, weights, vectors }
    },
  }
}

const baseWeight = ({ config, weights }: Network<TransformerConfig>, name: string): Weight => {
  const found = weights[name] ?? (name === 'head' && config.tied ? weights['embed'] : undefined)
  if (!found) throw new Error(`${name}: the network has no such weight`)
  return found
}
