import type { Tensor } from '@weftjs/spec'
import { concat, dispose, gather, keep, slice, tensor1d, tidy, writeRows, zeros } from '@weftjs/tensor'
import type { TransformerConfig } from './config.ts'
import type { Cache } from './transformer.ts'

/** Keys and values of the tokens so far. It owns its tensors: `dispose` when the text is done. */
export interface KvCache extends Cache {
  /** bytes it holds now, room for tokens to come among them */
  readonly bytes: number
  /** go on with these texts of the batch only, in this order */
  select(rows: readonly number[]): void
  dispose(): void
}

/** of one layer: [B, G, room, S], and how many keys and values are there */
interface Held {
  readonly k: Tensor
  readonly v: Tensor
  readonly keys: number
}

/** the last n of the first `keys` of old, then x, then room: [B, G, room, S] */
const moved = (old: Tensor | undefined, keys: number, n: number, x: Tensor, room: number): Tensor =>
  tidy(() => {
    const [B, G, T, S] = x.shape as [number, number, number, number]
    const parts = [
      ...(old && n ? [slice(old, [0, 0, keys - n, 0], [B, G, n, S])] : []), // [B, G, n, S]
      x,
      ...(room > n + T ? [zeros([B, G, room - n - T, S])] : []), // [B, G, room − n − T, S]
    ]
    // a tensor of our own in any case: what we hold is written over and disposed by us alone
    return keep(parts.length > 1 ? concat(parts, 2) : slice(x, [0, 0, 0, 0], x.shape))
  })

/**
 * Where the keys and values of one layer are kept. It owns what it keeps; `kvStaircase` of @weftjs/quant gives stores of few
 * bits.
 */
export interface KvStore {
  readonly bytes: number
  /** k, v [B, G, T, S] of new tokens → those of all tokens that it has, the first `keys` of [B, G, room, S], new ones last */
  extend(k: Tensor, v: Tensor): { k: Tensor; v: Tensor; keys: number }
  select(rows: readonly number[]): void
  dispose(): void
}
/** makes the store of a layer, of which a later query sees no more than `limit` tokens back */
export type KvFormat = (limit: number) => KvStore

/**
 * Full precision: each `extend` writes behind the tokens before. Where they need more room, it doubles, and what is beyond
 * the limit is let go.
 */
const plainStore: KvFormat = (limit) => {
  let held: Held | undefined
  const free = (): void => {
    if (held) dispose([held.k, held.v])
  }
  return {
    get bytes() {
      return held ? (held.k.size + held.v.size) * 4 : 0
    },
    extend: (k, v) => {
      const T = k.shape[2]!
      const past = held?.keys ?? 0
      let now: Held
      if (held && past + T <= held.k.shape[2]!) {
        const written = writeRows(
          [
            [held.k, k],
            [held.v, v],
          ],
          past,
        ).map(keep) as [Tensor, Tensor]
        now = { k: written[0], v: written[1], keys: past + T }
      } else {
        const stay = Math.min(past, limit)
        const keys = stay + T
        const room = Math.max(keys, Math.min(2 * keys, 2 * limit))
        now = { k: moved(held?.k, past, stay, k, room), v: moved(held?.v, past, stay, v, room), keys }
      }
      if (held && held.k !== now.k) free()
      held = now
      return now
    },
    select: (rows) => {
      if (!held) return
      const before = held
      tidy(() => {
        const index = tensor1d([...rows], 'int32')
        held = { k: keep(gather(before.k, index)), v: keep(gather(before.v, index)), keys: before.keys }
      })
      dispose([before.k, before.v])
    },
    dispose: () => {
      free()
      held = undefined
    },
  }
}

/**
 * A cache for one batch of texts: each `extend` puts a layer's keys and values behind those before. A layer with a sliding
 * window of w lets go of all but the last w − 1 tokens, which is all that a later query can see besides itself. Layers
 * are kept in `format`, what adapters put here by a name as it is. No gradient flows into a cache.
 */
export const kvCache = (config: TransformerConfig, format: KvFormat = plainStore): KvCache => {
  const stores = new Map<number | string, { readonly store: KvStore; rows: number }>()
  let length = 0
  const storeOf = (layer: number | string, rows: number): KvStore => {
    const found = stores.get(layer)
    if (found) {
      if (found.rows !== rows)
        throw new Error(
          `${typeof layer === 'number' ? `blocks.${layer}.attn` : layer}: the cache holds ${found.rows} texts, this pass has ${rows}; use one cache per batch`,
        )
      return found.store
    }
    const own = typeof layer === 'number'
    const limit = own && config.sliding[layer] && config.window ? config.window - 1 : Number.POSITIVE_INFINITY
    const store = (own ? format : plainStore)(limit)
    stores.set(layer, { store, rows })
    return store
  }
  return {
    get length() {
      return length
    },
    get bytes() {
      return [...stores.values()].reduce((n, { store }) => n + store.bytes, 0)
    },
    extend: (layer, k, v) => {
      const now = storeOf(layer, k.shape[0]!).extend(k, v)
      if (layer === config.layers - 1) length += k.shape[2]!
      return now
    },
    select: (rows) => {
      for (const held of stores.values()) {
        held.store.select(rows)
        held.rows = rows.length
      }
    },
    dispose: () => {
      for (const { store } of stores.values()) store.dispose()
      stores.clear()
      length = 0
    },
  }
}
