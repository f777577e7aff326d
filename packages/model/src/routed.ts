import type { Adapter, Batch, Site, Tensor } from '@weftjs/spec'
import {
  gatherRows,
  keep,
  mul,
  numbersNow,
  oneHot,
  reshape,
  slice,
  softmax,
  sum,
  tensor1d,
  topk,
  untaped,
} from '@weftjs/tensor'
import type { Binding, Bound } from './bind.ts'

const EXPERT = /^(blocks\.\d+\.mlp)\.experts\.(\d+)\./

/** Where the routers of mixtures sent the tokens of the pass that is running. */
export interface Routes {
  /** look at what routers give, adapters of theirs included */
  readonly bound: readonly Bound[]
  /** of an expert's site: 1 for the tokens that are sent to it, else 0 [N, 1]; undefined for another site */
  of(site: string): Tensor | undefined
  /** gives up what is kept of the last pass */
  forget(): void
}

/** Routes to the experts among some sites. */
export const routesTo = ({ network, sites }: Pick<Binding, 'network' | 'sites'>, at: readonly Site[]): Routes => {
  const { experts } = network.config
  const taken = new Map<string, Tensor>()
  const look: Adapter = {
    name: 'routes',
    init: () => ({ state: {} }),
    around: (next, x, _, { site }) => {
      const logits = next(x)
      untaped(() => {
        const { indices } = topk(softmax(reshape(logits, [-1, experts!.count])), experts!.active) // [N, k]
        const block = site.name.replace(/\.router$/, '')
        taken.get(block)?.dispose()
        taken.set(block, keep(sum(oneHot(indices, experts!.count), -2))) // [N, E]
        return []
      })
      return logits
    },
  }
  const blocks = new Set(experts ? at.flatMap((s) => EXPERT.exec(s.name)?.[1] ?? []) : [])
  const bound = sites
    .filter(({ name }) => blocks.has(name.replace(/\.router$/, '')) && name.endsWith('.router'))
    .map(
      (site): Bound => ({
        site,
        adapter: look,
        name: 'routes',
        prefix: `${site.name}.routes`,
        keys: [],
        base: undefined,
      }),
    )
  return {
    bound,
    of: (site) => {
      const [, block, e] = EXPERT.exec(site) ?? []
      const all = block === undefined ? undefined : taken.get(block)
      return all && slice(all, [0, Number(e)], [all.shape[0]!, 1])
    },
    forget: () => {
      for (const t of taken.values()) t.dispose()
      taken.clear()
    },
  }
}

/** the tokens that a column of 0 and 1 names, in their order; undefined where a device keeps them to itself */
const placesOf = (column: Tensor): number[] | undefined => {
  const now = numbersNow(column)
  return now && Array.from({ length: now.length }, (_, i) => i).filter((i) => now[i]! > 0)
}

/** one for all sites that read the same rows: experts read the same tensor where each runs on all tokens, and not the same rows */
export const readKey = (x: Tensor, site: string): string => `${x.id} ${/\.experts\.\d+\./.exec(site)?.[0] ?? ''}`

export interface Wanted {
  /** [n, in]; undefined where there are none */
  readonly rows?: Tensor
  /** how many of them count, where the others are 0 and only the device knows */
  readonly more?: Tensor
}

/**
 * Rows of x [..., in] at places of the batch that carry a loss, where x has a row for each place; of an expert those of the
 * tokens that are sent to it, `sent` [N, 1].
 */
export const wanted = (x: Tensor, { targets, segments }: Batch, sent: Tensor | undefined): Wanted => {
  const rows = reshape(x, [-1, x.shape.at(-1)!])
  const N = sent?.shape[0] ?? rows.shape[0]!
  const counts =
    targets.length === N
      ? (i: number) => targets[i]! >= 0
      : segments.length === N
        ? (i: number) => segments[i]! > 0
        : () => true
  const at = (t: Tensor, places: readonly number[]): Tensor =>
    places.length === t.shape[0] ? t : gatherRows(t, tensor1d(Int32Array.from(places), 'int32'))
  const places = Array.from({ length: N }, (_, i) => i).filter(counts)
  if (!places.length) return {}
  if (!sent) return { rows: at(rows, places) }
  if (rows.shape[0] === N) {
    const column = at(sent, places) // [n, 1]
    return { rows: mul(at(rows, places), column), more: sum(column) }
  }
  // rows are of the tokens that are sent here, in their order
  const tokens = placesOf(sent) ?? []
  const own = tokens.flatMap((token, i) => (counts(token) ? [i] : []))
  return tokens.length !== rows.shape[0] ? { rows } : own.length ? { rows: at(rows, own) } : {}
}
