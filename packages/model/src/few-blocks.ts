import type { Network, Params, Site, Tensor } from '@weftjs/spec'
import type { Binding, Bound } from './bind.ts'
import type { TransformerConfig } from './config.ts'
import { sitesOf } from './sites.ts'

const inBlock = (name: string): [block: number, rest: string] | undefined => {
  const found = /^blocks\.(\d+)(?:\.(.*))?$/.exec(name)
  return found ? [Number(found[1]), found[2] ?? ''] : undefined
}

/** the same record with the blocks that `order` chooses under their new numbers, and all that is outside of blocks */
const chosen = <T>(record: Readonly<Record<string, T>>, order: readonly number[]): Record<string, T> => {
  const blocks = new Map<number, (readonly [rest: string, value: T])[]>()
  const out: Record<string, T> = {}
  for (const [name, value] of Object.entries(record)) {
    const place = inBlock(name)
    if (!place) out[name] = value
    else blocks.set(place[0], [...(blocks.get(place[0]) ?? []), [place[1], value]])
  }
  for (const [now, was] of order.entries())
    for (const [rest, value] of blocks.get(was) ?? []) out[`blocks.${now}.${rest}`] = value
  return out
}

/** A tuned network of some of its blocks, in an order of their own: tensors are shared, one block may stand twice. */
export const withBlocks = (binding: Binding, order: readonly number[]): Binding => {
  const { network, bound, params, constants } = binding
  const { replicated: _, ...config } = network.config
  const small: Network<TransformerConfig> = {
    config: {
      ...config,
      layers: order.length,
      sliding: order.map((i) => config.sliding[i] ?? false),
      ...(config.experts && {
        experts: { ...config.experts, layers: order.map((i) => config.experts!.layers[i] ?? false) },
      }),
    },
    weights: chosen(network.weights, order),
    vectors: chosen(network.vectors, order),
  }
  const sites = sitesOf(small)
  const byName = new Map(sites.map((s) => [s.name, s]))
  const at = (b: Bound, name: string): Bound[] => {
    const site: Site | undefined = byName.get(name)
    return site ? [{ ...b, site, prefix: `${name}.${b.name}` }] : []
  }
  const placed = bound.flatMap((b) => {
    const place = inBlock(b.site.name)
    if (!place) return at(b, b.site.name)
    const [was, rest] = place
    return order.flatMap((i, now) => (i === was ? at(b, rest ? `blocks.${now}.${rest}` : `blocks.${now}`) : []))
  })
  return {
    network: small,
    sites,
    bound: placed,
    params: chosen<Tensor>(params, order),
    constants: chosen<Tensor>(constants, order) as Params,
  }
}

/** Runs of neighbouring blocks that are alike: what stands on them, what trains, shapes and formats. */
export const runsOf = ({ network, bound, params, constants }: Binding): readonly { first: number; count: number }[] => {
  const said = Array.from({ length: network.config.layers }, (): string[] => [])
  const say = (name: string, what: string): void => {
    const place = inBlock(name)
    if (place) said[place[0]]?.push(`${place[1]}:${what}`)
  }
  for (const [n, { shape, format, parts }] of Object.entries(network.weights))
    say(n, `${format} ${shape} ${Object.values(parts).map((t) => t.size)}`)
  for (const [what, all] of Object.entries({ params, constants, vectors: network.vectors }))
    for (const [n, t] of Object.entries(all)) say(n, `${what} ${t.shape}`)
  for (const b of bound) say(b.site.name, `${b.name} ${b.adapter.name} ${b.base?.format}`)
  const runs: { first: number; count: number }[] = []
  for (const [i, list] of said.entries()) {
    const last = runs.at(-1)
    if (last && said[last.first]!.sort().join() === list.sort().join()) last.count++
    else runs.push({ first: i, count: 1 })
  }
  return runs
}
