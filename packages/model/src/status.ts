import type { Params, SiteKind } from '@weftjs/spec'
import { countParams, selectParams } from '@weftjs/tensor'
import { type Binding, type Bound, stateOf } from './bind.ts'

/** One adapter at one site. */
export interface AdapterStatus {
  readonly name: string
  readonly method: string
  /** of factors a [r, in] and b [out, r], where it has them */
  readonly rank?: number
  readonly tensors: Readonly<Record<string, readonly number[]>>
  readonly trained: number
  readonly frozen: number
  /** it has put a weight of its own in place of the frozen one */
  readonly base?: string
}

/** What stands at a site. */
export interface SiteStatus {
  readonly site: string
  readonly kind: SiteKind
  /** of the weight, where there is one: [out, in] and its storage format */
  readonly shape?: readonly [out: number, input: number]
  readonly format?: string
  /** the network's own tensors there that train whole */
  readonly whole: readonly string[]
  readonly adapters: readonly AdapterStatus[]
}

const rankOf = ({ a, b }: Params): number | undefined =>
  a?.rank === 2 && b?.rank === 2 && a.shape[0] === b.shape[1] ? a.shape[0] : undefined

const adapterStatus = (b: Bound, params: Params, constants: Params): AdapterStatus => {
  const [trained, frozen] = [stateOf(b, params), stateOf(b, constants)]
  const state = { ...frozen, ...trained }
  const rank = rankOf(state)
  return {
    ...{ name: b.name, method: b.adapter.name },
    ...(rank !== undefined && { rank }),
    tensors: Object.fromEntries(Object.entries(state).map(([n, t]) => [n, [...t.shape]])),
    trained: countParams(trained),
    frozen: countParams(frozen),
    ...(b.base && { base: b.base.format ?? 'dense' }),
  }
}

/** Every site of a network: its weight, what trains whole there, and the adapters that act, in their order. */
export const statusOf = (
  { sites, bound, params: start, constants }: Binding,
  params: Params = start,
): readonly SiteStatus[] =>
  sites.map(({ name, kind, weight }) => ({
    ...{ site: name, kind },
    ...(weight && { shape: weight.shape, format: weight.format ?? 'dense' }),
    whole: [name, `${name}.bias`].filter((n) => Object.hasOwn(params, n)),
    adapters: bound.filter((b) => b.site.name === name).map((b) => adapterStatus(b, params, constants)),
  }))

/** Numbers of a tuned network. */
export interface Counts {
  /** numbers that train */
  readonly trained: number
  /** of the adapters: numbers that are held fixed */
  readonly frozen: number
  /** of the network as it was */
  readonly network: number
  /** trained over all numbers there are */
  readonly share: number
}

/** How many numbers train, of how many. */
export const countsOf = ({ network, params, constants }: Binding): Counts => {
  const trained = countParams(params)
  const frozen = countParams(constants)
  const matrices = Object.values(network.weights).reduce((n, { shape: [out, input] }) => n + out * input, 0)
  const whole = countParams(selectParams(params, (n) => n in network.weights || n in network.vectors))
  const own = matrices + countParams(network.vectors)
  return { trained, frozen, network: own, share: trained / (own + trained - whole + frozen) }
}
