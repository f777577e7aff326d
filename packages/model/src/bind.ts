import type {
  Adapter,
  InitContext,
  Network,
  Params,
  Rng,
  RunContext,
  Seen,
  Site,
  Start,
  Tensor,
  Weight,
} from '@weftjs/spec'
import { tidy } from '@weftjs/tensor'
import { matchNames } from '@weftjs/weight'
import type { TransformerConfig } from './config.ts'
import { type At, match } from './match.ts'
import { sitesOf } from './sites.ts'

export interface Attachment {
  readonly adapter: Adapter<any>
  readonly at: At
  /** stands in the names of its tensors; the adapter's own by default */
  readonly name?: string
}

/** One adapter at one site. */
export interface Bound {
  readonly site: Site
  readonly adapter: Adapter
  /** of the attachment */
  readonly name: string
  /** its tensors in `params` and `constants` are `${prefix}.${key}` */
  readonly prefix: string
  readonly keys: readonly string[]
  readonly base: Weight | undefined
}

/** What stands on a network: plain data, from which `tunedOf` makes the passes. */
export interface Binding {
  readonly network: Network<TransformerConfig>
  readonly sites: readonly Site[]
  readonly bound: readonly Bound[]
  /** exactly what trains */
  readonly params: Params
  /** saved with it, but held fixed */
  readonly constants: Params
}

export interface AttachOptions {
  /**
   * Tensors of the network itself that train whole, by glob over their names: `**` for full fine-tuning, `**.bias` for
   * biases, `head` for a new head. Their values stand in `params` under their own names.
   */
  readonly train?: string | readonly string[]
  /** what a calibration pass saw, by the names of sites: see `calibrate` */
  readonly seen?: Readonly<Record<string, Seen>>
}

/** Adapters at their sites, with the tensors that they begin with. Where one cannot be put there, nothing is left behind. */
export const bind = (
  network: Network<TransformerConfig>,
  attachments: readonly Attachment[],
  rng: Rng,
  options: AttachOptions = {},
): Binding => {
  let made: Binding
  // what a start computes on its way goes when it is done
  tidy(() => {
    made = startAll(network, attachments, rng, options)
    const { params, constants, bound } = made
    return { ...params, ...constants, bases: bound.map((b) => ({ ...b.base?.parts })) } as never
  })
  return made!
}

const startAll = (
  network: Network<TransformerConfig>,
  attachments: readonly Attachment[],
  rng: Rng,
  { train, seen = {} }: AttachOptions,
): Binding => {
  const sites = sitesOf(network)
  const params: Record<string, Tensor> = {}
  const constants: Record<string, Tensor> = {}
  const bound: Bound[] = []
  if (train !== undefined) Object.assign(params, trainedWhole(network, train))

  for (const { adapter, at, name = adapter.name } of attachments) {
    if (name === 'whole') throw new Error(`attach: the name 'whole' stands for what trains whole; choose another`)
    const common = new Map<string, Tensor>()
    const decided = new Map<string, unknown>()
    const here = match(sites, at)
    for (const site of here) {
      const prefix = `${site.name}.${name}`
      if (bound.some((b) => b.prefix === prefix))
        throw new Error(`${site.name}: two adapters named '${name}' meet here; give one of them a 'name'`)
      if (adapter.weight && !site.weight && !adapter.around && !adapter.attend && !adapter.vector)
        throw new Error(
          `${site.name} (${site.kind}) has no weight for '${adapter.name}' to adapt; narrow "at" to linear sites`,
        )
      const context: InitContext = {
        rng: rng.fork(prefix),
        sites: here,
        shared: (key, make, { trains = false } = {}) => {
          if (!common.has(key)) {
            if (`${name}.shared.${key}` in { ...params, ...constants })
              throw new Error(
                `${site.name}: two adapters named '${name}' have a '${key}' of their own for all their sites; give one of them a 'name'`,
              )
            const made = make(rng.fork(`${name}.shared.${key}`))
            common.set(key, made)
            ;(trains ? params : constants)[`${name}.shared.${key}`] = made
          }
          return common.get(key) as never
        },
        once: (key, make) => {
          if (!decided.has(key)) decided.set(key, make())
          return decided.get(key) as never
        },
        seen: (other = site) => {
          const found = seen[other.name]
          if (found) return found
          throw new Error(
            `${other.name}: '${adapter.name}' starts from a calibration pass (${adapter.calibrates?.join(', ')}), and none reached this site; calibrate the network and pass what it gives as "seen"`,
          )
        },
      }
      let start: Start<Params> | undefined
      // what it computes on its way goes with each site, and not with the last one
      tidy(() => {
        start = adapter.init(site, context)
        return { ...start?.state, base: { ...start?.base?.parts }, common: Object.fromEntries(common) } as never
      })
      if (!start) continue
      for (const [key, tensor] of Object.entries(start.state) as [string, Tensor][])
        (!start.trains || start.trains.includes(key) ? params : constants)[`${prefix}.${key}`] = tensor
      bound.push({ site, adapter, name, prefix, keys: Object.keys(start.state), base: start.base })
    }
  }
  return { network, sites, bound, params, constants }
}

/** the adapter's own tensors among all, by the keys that it began with */
export const stateOf = ({ prefix, keys }: Bound, params: Params): Params => {
  const state: Record<string, Tensor> = {}
  for (const key of keys) {
    const found = params[`${prefix}.${key}`]
    if (found) state[key] = found
  }
  return state
}

/** the shared tensors of an attachment among all */
export const sharedOf = (name: string, all: Params): Params => {
  const start = `${name}.shared.`
  const shared: Record<string, Tensor> = {}
  for (const key in all) if (key.startsWith(start)) shared[key.slice(start.length)] = all[key]!
  return shared
}

/** A context outside of any pass, for folding and for tests. */
export const contextOf = (site: Site, given: Partial<RunContext> = {}): RunContext => ({
  site,
  training: false,
  inputs: {},
  inner: [],
  shared: {},
  scratch: new Map(),
  penalty: () => {},
  ...given,
})

/** The same for a start: nothing is shared beyond this call. */
export const initContextOf = (site: Site, given: Partial<InitContext> & Pick<InitContext, 'rng'>): InitContext => ({
  sites: [site],
  shared: (key, make) => make(given.rng.fork(key)),
  once: (_, make) => make(),
  seen: () => {
    throw new Error(`${site.name}: there was no calibration pass`)
  },
  ...given,
})

/** What acts in a pass. */
export interface Chosen {
  readonly bySite: ReadonlyMap<string, readonly Bound[]>
  readonly bases: ReadonlyMap<string, Weight>
  /** do the tensors that train whole? */
  readonly whole: boolean
}

export const group = (bound: readonly Bound[]): Map<string, Bound[]> => {
  const map = new Map<string, Bound[]>()
  for (const b of bound) {
    const list = map.get(b.site.name)
    if (list) list.push(b)
    else map.set(b.site.name, [b])
  }
  return map
}

/** the weights that adapters put in place of the network's. @throws Error where two would at one site */
export const basesOf = (bySite: ReadonlyMap<string, readonly Bound[]>): Map<string, Weight> => {
  const bases = new Map<string, Weight>()
  for (const [site, list] of bySite) {
    const [first, second] = list.filter((b) => b.base)
    if (second)
      throw new Error(
        `${site}: '${first!.name}' and '${second.name}' both put a weight of their own in place of the frozen one, and only one can stand; attach one of them, or make them act in turn`,
      )
    if (first) bases.set(site, first.base!)
  }
  return bases
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
