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
 * A cache for one batch of texts: each `extend` writes a layer's keys and values behind those before. Where they need
 * more room, it doubles; a layer with a sliding window of w then lets go of all but the last w − 1 tokens, which is all
 * that a later query can see besides itself. No gradient flows into a cache.
 */
export const kvCache = (config: TransformerConfig): KvCache => {
  const held = new Map<number | string, Held>()
  let length = 0
  return {
    get length() {
      return length
    },
    get bytes() {
      return [...held.values()].reduce((n, { k, v }) => n + (k.size + v.size) * 4, 0)
    },
    extend: (layer, k, v) => {
      const before = held.get(layer)
      if (before && before.k.shape[0] !== k.shape[0])
        throw new Error(
          `${typeof layer === 'number' ? `blocks.${layer}.attn` : layer}: the cache holds ${before.k.shape[0]} texts, this pass has ${k.shape[0]}; use one cache per batch`,
        )
      const T = k.shape[2]!
      const past = before?.keys ?? 0
      let now: Held
      if (before && past + T <= before.k.shape[2]!) {
        const written = writeRows(
          [
            [before.k, k],
            [before.v, v],
          ],
          past,
        ).map(keep) as [Tensor, Tensor]
        now = { k: written[0], v: written[1], keys: past + T }
      } else {
        const sliding = typeof layer === 'number' && config.sliding[layer]
        const limit = sliding && config.window ? config.window - 1 : Number.POSITIVE_INFINITY
        const stay = Math.min(past, limit)
        const keys = stay + T
        const room = Math.max(keys, Math.min(2 * keys, 2 * limit))
        now = { k: moved(before?.k, past, stay, k, room), v: moved(before?.v, past, stay, v, room), keys }
      }
      if (before && before.k !== now.k) dispose([before.k, before.v])
      held.set(layer, now)
      if (layer === config.layers - 1) length += T
      return now
    },
    select: (rows) => {
      for (const [layer, before] of [...held]) {
        tidy(() => {
          const index = tensor1d([...rows], 'int32')
          held.set(layer, { k: keep(gather(before.k, index)), v: keep(gather(before.v, index)), keys: before.keys })
        })
        dispose([before.k, before.v])
      }
    },
    dispose: () => {
      dispose([...held.values()].flatMap(({ k, v }) => [k, v]))
      held.clear()
      length = 0
    },
  }
}
