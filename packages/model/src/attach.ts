import type {
  Adapter,
  Attention,
  InitContext,
  Network,
  Params,
  Rng,
  RunContext,
  Scalar,
  Site,
  Tensor,
  Tensor2D,
  Weight,
} from '@weftjs/spec'
import { add, keep, recompute, tidy } from '@weftjs/tensor'
import { dense, matchNames } from '@weftjs/weight'
import type { TransformerConfig } from './config.ts'
import { type At, match } from './match.ts'
import { sitesOf } from './sites.ts'
import { type Cache, type Hooks, type Inputs, type Next, transformer } from './transformer.ts'

export interface Attachment {
  readonly adapter: Adapter<any>
  readonly at: At
  /** stands in the names of its tensors; the adapter's own by default */
  readonly name?: string
}

export interface ForwardOptions {
  readonly cache?: Cache
  readonly training?: boolean
  /** noise of this pass (dropout), where training */
  readonly rng?: Rng
  /** keep only what goes into each block for the backward pass, which runs the block again */
  readonly recompute?: boolean
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

/** One adapter at one site. */
export interface Bound {
  readonly site: Site
  readonly adapter: Adapter
  /** its tensors in `params` and `constants` are `${prefix}.${key}` */
  readonly prefix: string
  readonly keys: readonly string[]
  readonly base: Weight | undefined
}

/** A network with adapters: `params` is exactly what trains, `constants` what is saved with it but held fixed. */
export interface Tuned {
  readonly network: Network<TransformerConfig>
  readonly sites: readonly Site[]
  readonly bound: readonly Bound[]
  readonly params: Params
  readonly constants: Params
  run(params: Params, inputs: Inputs, options?: ForwardOptions): Pass
  /** ids [B, T] → logits [B, T, V] */
  forward(params: Params, inputs: Inputs, options?: ForwardOptions): { logits: Tensor }
  /** the network with every weight adapter folded in, in the format that each base has */
  fold(params: Params): Network<TransformerConfig>
}

/** the adapter's own tensors among all, by the keys that it began with */
const stateOf = ({ prefix, keys }: Bound, params: Params): Params => {
  const state: Record<string, Tensor> = {}
  for (const key of keys) {
    const found = params[`${prefix}.${key}`]
    if (found) state[key] = found
  }
  return state
}

/** is a name that of a site or of something below it? */
const within = (name: string, site: string): boolean => name === site || name.startsWith(`${site}.`)

export interface AttachOptions {
  /**
   * Tensors of the network itself that train whole, by glob over their names: `**` for full fine-tuning, `**.bias` for
   * biases, `head` for a new head. Their values stand in `params` under their own names.
   */
  readonly train?: string | readonly string[]
}

/** Put adapters on a network; the one place where methods meet a model. The network itself is never changed. */
export const attach = (
  network: Network<TransformerConfig>,
  attachments: readonly Attachment[],
  rng: Rng,
  { train }: AttachOptions = {},
): Tuned => {
  const sites = sitesOf(network)
  const params: Record<string, Tensor> = {}
  const constants: Record<string, Tensor> = {}
  const bound: Bound[] = []
  const bases = new Map<string, Weight>()
  if (train !== undefined) Object.assign(params, trainedWhole(network, train))

  for (const { adapter, at, name = adapter.name } of attachments) {
    const common = new Map<string, Tensor>()
    for (const site of match(sites, at)) {
      const prefix = `${site.name}.${name}`
      if (bound.some((b) => b.prefix === prefix))
        throw new Error(`${site.name}: two adapters named '${name}' meet here; give one of them a 'name'`)
      if (adapter.weight && !site.weight && !adapter.around && !adapter.attend)
        throw new Error(
          `${site.name} (${site.kind}) has no weight for '${adapter.name}' to adapt; narrow "at" to linear sites`,
        )
      const here: Site = bases.has(site.name) ? { ...site, weight: bases.get(site.name)! } : site
      const context: InitContext = {
        rng: rng.fork(prefix),
        shared: (key, make) => {
          if (!common.has(key)) {
            const made = tidy(() => keep(make()))
            common.set(key, made)
            constants[`${name}.shared.${key}`] = made
          }
          return common.get(key) as never
        },
      }
      const { state, trains, base } = adapter.init(here, context)
      if (base) bases.set(site.name, base)
      for (const [key, tensor] of Object.entries(state) as [string, Tensor][])
        (!trains || trains.includes(key) ? params : constants)[`${prefix}.${key}`] = tensor
      bound.push({ site: here, adapter, prefix, keys: Object.keys(state), base })
    }
  }
  const bySite = group(bound)

  const baseOf = (name: string, values: Params): Weight => {
    const own =
      values[name] ?? (name === 'head' && network.config.tied && !network.weights['head'] ? values['embed'] : undefined)
    return own ? dense(own as Tensor2D) : (bases.get(name) ?? baseWeight(network, name))
  }

  const run: Tuned['run'] = (
    values,
    inputs,
    { cache, training = false, rng: noise, recompute: again = false } = {},
  ) => {
    const scratch = new Map<string, Tensor>()
    let given = inputs
    let penalty: Scalar | undefined
    const all = { ...constants, ...values }
    const contexts = new Map<Bound, { state: Params; context: RunContext }>()
    const of = (b: Bound): { state: Params; context: RunContext } => {
      let found = contexts.get(b)
      if (!found) {
        const state = stateOf(b, all)
        const alone = (what: string): void => {
          if (again && b.site.layer >= 0)
            throw new Error(`${b.prefix}: ${what}, which a block that is computed again cannot; turn recompute off`)
        }
        const context: RunContext = {
          site: b.site,
          training,
          inputs: given,
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
        }
        found = { state, context }
        contexts.set(b, found)
      }
      return found
    }
    /** each run of a block begins with the same noise, and with inputs that still exist */
    const twice: NonNullable<Hooks['block']> = (site, make, shared) => (x) => {
      const inner = Object.keys(values).filter((n) => within(n, site))
      const block = (x: Tensor, held: { shared: typeof shared; inputs: Inputs }): Tensor => {
        for (const b of bound) if (within(b.site.name, site)) contexts.delete(b)
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
    const hooks: Hooks = {
      vector: (name) => values[name] ?? network.vectors[name],
      weight: (name) => {
        let weight = baseOf(name, values)
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
    }
    const { hidden, head } = transformer(network.config, hooks, cache)
    // read when the loss is made: the head, too, may add to it
    const withPenalty = (pass: Omit<Pass, 'penalty'>): Pass => ({
      ...pass,
      get penalty() {
        return penalty
      },
    })
    const wrapped = (site: string): boolean => bySite.get(site)?.some((b) => b.adapter.around) ?? false
    if (wrapped('model')) {
      // ids → logits as one: what comes out has passed the head already
      const key = network.config.input === 'tokens' ? 'ids' : 'pixels'
      const whole = hooks.around('model', (x) => head(hidden({ ...inputs, [key]: x })))
      return withPenalty({ hidden: whole(inputs[key]!), head: (x) => x, headWeight: undefined, softcap: undefined })
    }
    const plain = !wrapped('head') && !hooks.vector('head.bias') && network.config.output === 'causal'
    return withPenalty({
      hidden: hidden(inputs),
      head,
      headWeight: plain ? hooks.weight('head') : undefined,
      softcap: network.config.logitSoftcap,
    })
  }

  return {
    network,
    sites,
    bound,
    params,
    constants,
    run,
    forward: (values, inputs, options) => {
      const { hidden, head } = run(values, inputs, options)
      return { logits: head(hidden) }
    },
    fold: (values) => {
      const all = { ...constants, ...values }
      const weights: Record<string, Weight> = { ...network.weights }
      for (const name of Object.keys(values)) if (name in weights) weights[name] = dense(values[name] as Tensor2D)
      for (const [name, list] of bySite) {
        const stuck = list.find((b) => b.adapter.around || b.adapter.attend || !b.adapter.weight)
        if (stuck)
          throw new Error(
            `${name}: '${stuck.adapter.name}' acts around the module, not on its weight, so it cannot be folded`,
          )
        const base = baseOf(name, values)
        weights[name] = tidy(() => {
          const context: RunContext = {
            site: list[0]!.site,
            training: false,
            inputs: {},
            inner: [],
            scratch: new Map(),
            penalty: () => {},
          }
          const adapted = list.reduce((w, b) => b.adapter.weight!(w, stateOf(b, all), context), base)
          const folded = base.like(adapted.dense())
          for (const t of Object.values(folded.parts)) keep(t)
          return folded as never
        }) as unknown as Weight
      }
      // an adapter of the embedding leaves the head that shares its matrix as it is: the two part
      if (network.config.tied && bySite.has('embed') && !weights['head']) weights['head'] = baseOf('head', values)
      const vectors = { ...network.vectors }
      for (const name of Object.keys(values)) if (name in vectors) vectors[name] = values[name]!
      const untied = network.config.tied && weights['head'] !== undefined
      return { config: untied ? { ...network.config, tied: false } : network.config, weights, vectors }
    },
  }
}

const trainedWhole = (
  { weights, vectors }: Network<TransformerConfig>,
  patterns: string | readonly string[],
): Params => {
  const wanted = matchNames(patterns)
  const found: Record<string, Tensor> = {}
  for (const name of Object.keys(weights).filter(wanted)) {
    const { parts, format } = weights[name]!
    if (format !== 'dense')
      throw new Error(`${name}: a weight in format '${format}' cannot train whole; narrow "train" or keep it dense`)
    found[name] = parts['weight']!
  }
  for (const name of Object.keys(vectors).filter(wanted)) found[name] = vectors[name]!
  if (!Object.keys(found).length) throw new Error(`train: no tensor of the network matches ${JSON.stringify(patterns)}`)
  return found
}

const baseWeight = ({ config, weights }: Network<TransformerConfig>, name: string): Weight => {
  const found = weights[name] ?? (name === 'head' && config.tied ? weights['embed'] : undefined)
  if (!found) throw new Error(`${name}: the network has no such weight`)
  return found
}

const group = (bound: readonly Bound[]): Map<string, Bound[]> => {
  const map = new Map<string, Bound[]>()
  for (const b of bound) map.set(b.site.name, [...(map.get(b.site.name) ?? []), b])
  return map
}
