import type { Attention, Tensor, Weight } from '@weftjs/spec'
import { concat, gather, slice, tensor } from '@weftjs/tensor'
import { rowsOf } from '@weftjs/weight'
import type { Chosen } from './bind.ts'
import type { Hooks, Next } from './transformer.ts'

/** kinds of places within which nothing depends on the rest of the batch */
const LEAVES: readonly string[] = ['linear', 'embed', 'norm', 'head', 'mlp', 'core']

interface Group {
  readonly rows: readonly number[]
  readonly hooks: Hooks
}

const take = (x: Tensor, rows: readonly number[]): Tensor => {
  const [first = 0] = rows
  // rows that stand together need no copy by index
  if (rows.every((r, i) => r === first + i))
    return slice(x, [first, ...x.shape.slice(1).map(() => 0)], [rows.length, ...x.shape.slice(1)])
  return gather(x, tensor([...rows], [rows.length], 'int32'))
}

/**
 * Hooks that treat each row of a batch by hooks of its own: where they differ, the rows are parted, and put back in order.
 * @throws Error for adapters around whole blocks, where masks and caches of the batch come in
 */
export const byRows = (
  rows: readonly (readonly string[])[],
  hooks: readonly Hooks[],
  chosen: readonly Chosen[],
): Hooks => {
  for (const { bySite } of chosen)
    for (const list of bySite.values())
      for (const { site, adapter } of list)
        if (adapter.around && !LEAVES.includes(site.kind))
          throw new Error(
            `${site.name}: '${adapter.name}' acts around a ${site.kind}, so it cannot differ from row to row; run these rows as a batch of their own`,
          )
  const found = new Map<string, { rows: number[]; hooks: Hooks }>()
  for (const [i, names] of rows.entries()) {
    const key = JSON.stringify([...names].sort())
    const group = found.get(key)
    if (group) group.rows.push(i)
    else found.set(key, { rows: [i], hooks: hooks[i]! })
  }
  const groups: readonly Group[] = [...found.values()]
  const order = groups.flatMap((g) => g.rows)
  const sorted = order.every((r, i) => r === i)
  // within a part of the rows, only their own hooks act
  let own: Hooks | undefined

  const apart = (site: string, x: Tensor, run: (part: Tensor, group: number) => Tensor): Tensor => {
    if (x.shape[0] !== rows.length)
      throw new Error(
        `${site}: each of ${rows.length} rows has adapters of its own, and [${x.shape}] came here; give as many rows, and take the loss from all logits where the head is adapted`,
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
    const joined = parts.length === 1 ? parts[0]! : concat(parts, 0)
    if (sorted) return joined
    const back = order.map((_, i) => order.indexOf(i))
    return gather(joined, tensor(back, [back.length], 'int32'))
  }

  return {
    vector: (name) => (own ?? groups[0]!.hooks).vector(name),
    weight: (name) => {
      if (own) return own.weight(name)
      const weights = groups.map((g) => g.hooks.weight(name))
      const [first] = weights as [Weight, ...Weight[]]
      if (weights.every((w) => w === first)) return first
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
      return runs.every((r) => r === next) ? next : (x) => apart(name, x, (part, i) => (runs[i] as Next)(part))
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
  }
}
