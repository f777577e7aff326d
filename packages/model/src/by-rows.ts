import type { Attention, Params, Tensor, Weight } from '@weftjs/spec'
import { concat, gather, slice, tensor, zeros } from '@weftjs/tensor'
import { rowsOf } from '@weftjs/weight'
import type { Chosen } from './bind.ts'
import type { Hooks, Next } from './transformer.ts'

/** kinds of places within which nothing depends on the rest of the batch */
const LEAVES: readonly string[] = ['linear', 'embed', 'norm', 'head', 'mlp', 'core']

/** places outside of any module: what trains whole there cannot be parted */
const OPEN: readonly string[] = ['positions', 'types', 'cls']

/** Rows of a batch that have the same adapters. */
export interface Rows {
  readonly rows: readonly number[]
  readonly adapters: readonly string[]
}
export interface Group extends Rows {
  readonly hooks: Hooks
  readonly chosen: Chosen
}

/** rows that have the same adapters, in whatever order they are named */
export const groupRows = (rows: readonly (readonly string[])[]): readonly Rows[] => {
  const found = new Map<string, { rows: number[]; adapters: readonly string[] }>()
  for (const [i, adapters] of rows.entries()) {
    const key = JSON.stringify([...new Set(adapters)].sort())
    const group = found.get(key)
    if (group) group.rows.push(i)
    else found.set(key, { rows: [i], adapters })
  }
  return [...found.values()]
}

/** of what has an entry for each of `count` rows, those of some of them */
export const takeInputs = (inputs: Params, rows: readonly number[], count: number): Params =>
  Object.fromEntries(Object.entries(inputs).map(([n, x]) => [n, x.shape[0] === count ? take(x, rows) : x]))

export const take = (x: Tensor, rows: readonly number[]): Tensor => {
  const [first = 0] = rows
  // rows that stand together need no copy by index
  if (rows.every((r, i) => r === first + i))
    return slice(x, [first, ...x.shape.slice(1).map(() => 0)], [rows.length, ...x.shape.slice(1)])
  return gather(x, tensor([...rows], [rows.length], 'int32'))
}

/** x of some rows at their places among `count`, zero elsewhere */
export const spread = (x: Tensor, rows: readonly number[], count: number): Tensor => {
  const from = Array.from({ length: count }, (_, i) => (rows.includes(i) ? rows.indexOf(i) : rows.length))
  return gather(concat([x, zeros([1, ...x.shape.slice(1)])], 0), tensor(from, [count], 'int32'))
}

/**
 * Hooks that treat each row of a batch by hooks of its own: where they differ, the rows are parted, and put back in order.
 * @throws Error for adapters around whole blocks, where masks and caches of the batch come in
 */
export const byRows = (groups: readonly Group[]): Hooks => {
  for (const { chosen } of groups)
    for (const list of chosen.bySite.values())
      for (const { site, adapter } of list)
        if (adapter.around && !LEAVES.includes(site.kind))
          throw new Error(
            `${site.name}: '${adapter.name}' acts around a ${site.kind}, so it cannot differ from row to row; run these rows as a batch of their own`,
          )
  const count = groups.reduce((n, g) => n + g.rows.length, 0)
  const order = groups.flatMap((g) => g.rows)
  const sorted = order.every((r, i) => r === i)
  // within a part of the rows, only their own hooks act
  let own: Hooks | undefined

  const apart = (site: string, x: Tensor, run: (part: Tensor, group: number) => Tensor): Tensor => {
    if (x.shape[0] !== count)
      throw new Error(
        `${site}: each of ${count} rows has adapters of its own, and [${x.shape}] came here; keep the rows of the batch apart up to here`,
      )
    const parts = groups.map((g, i) => {
      const outer = own
      own = g.hooks
      try {
        return run(take(x, g.rows), i)
      } finally {
        own = outer
      }
    })
    const odd = parts.find((p) => p.shape.slice(1).join() !== parts[0]!.shape.slice(1).join())
    if (odd)
      throw new Error(
        `${site}: adapters give [${parts[0]!.shape}] to some rows and [${odd.shape}] to others, which cannot stand in one batch; run these rows apart`,
      )
    const joined = parts.length === 1 ? parts[0]! : concat(parts, 0)
    if (sorted) return joined
    const back = order.map((_, i) => order.indexOf(i))
    return gather(joined, tensor(back, [back.length], 'int32'))
  }

  const one = <T>(list: readonly T[]): boolean => list.every((x) => x === list[0])
  /** does a vector differ from row to row, since it trains whole and acts in some only? */
  const parted = (name: string): boolean => !one(groups.map((g) => g.hooks.vector(name)))
  // of the pass as a whole
  const { block, carried } = groups[0]!.hooks

  return {
    whole: true,
    vector: (name) => {
      if (!own && OPEN.includes(name) && parted(name))
        throw new Error(
          `${name}: trains whole, and cannot differ from row to row; run these rows as batches of their own`,
        )
      return (own ?? groups[0]!.hooks).vector(name)
    },
    weight: (name) => {
      if (own) return own.weight(name)
      const weights = groups.map((g) => g.hooks.weight(name))
      const [first] = weights as [Weight, ...Weight[]]
      if (one(weights)) return first
      return {
        shape: first.shape,
        format: 'rows',
        parts: first.parts,
        apply: (x) => apart(name, x, (part, i) => weights[i]!.apply(part)),
        rows: (index) => apart(name, index, (part, i) => rowsOf(weights[i]!, part)),
        like: first.like,
        dense: () => {
          throw new Error(`${name}: each row has a matrix of its own here; take the loss from all logits`)
        },
      }
    },
    around: (name, next) => {
      if (own) return own.around(name, next)
      const runs = groups.map((g) => g.hooks.around(name, next))
      const plain = runs.every((r) => r === next) && !parted(name) && !parted(`${name}.bias`)
      return plain ? next : (x) => apart(name, x, (part, i) => (runs[i] as Next)(part))
    },
    attend: (name, next) => {
      if (own) return own.attend(name, next)
      const runs = groups.map((g) => g.hooks.attend(name, next))
      if (runs.every((r) => r === next)) return next
      return ({ q, k, v, bias, causal }: Attention) =>
        apart(name, q, (part, i) => {
          const { rows } = groups[i]!
          return runs[i]!({
            ...{ q: part, k: take(k, rows), v: take(v, rows), causal },
            ...(bias && { bias: bias.shape[0] === 1 ? bias : take(bias, rows) }),
          })
        })
    },
    ...(block && { block }),
    ...(carried && { carried }),
  }
}
