import type { Tensor } from '@weftjs/spec'
import { concat, dispose, gather, keep, slice, tensor1d, tidy } from '@weftjs/tensor'
import type { TransformerConfig } from './config.ts'
import type { Cache } from './transformer.ts'

/** Keys and values of the tokens so far. It owns its tensors: `dispose` when the text is done. */
export interface KvCache extends Cache {
  /** bytes it holds now */
  readonly bytes: number
  /** go on with these texts of the batch only, in this order */
  select(rows: readonly number[]): void
  dispose(): void
}

/** the last n of x [B, G, K, S] along K */
const last = (x: Tensor, n: number): Tensor => {
  const [B, G, K, S] = x.shape as [number, number, number, number]
  return slice(x, [0, 0, K - n, 0], [B, G, n, S]) // [B, G, n, S]
}

/**
 * A cache for one batch of texts: each `extend` gives the layer's keys and values [B, G, held + T, S]. A layer with a
 * sliding window of w holds the last w − 1 tokens only, which is all that a later query can see besides itself.
 */
export const kvCache = (config: TransformerConfig): KvCache => {
  const held: ({ k: Tensor; v: Tensor } | undefined)[] = []
  let length = 0
  return {
    get length() {
      return length
    },
    get bytes() {
      return held.reduce((n, layer) => n + (layer ? (layer.k.size + layer.v.size) * 4 : 0), 0)
    },
    extend: (layer, k, v) => {
      const before = held[layer]
      if (before && before.k.shape[0] !== k.shape[0])
        throw new Error(
          `blocks.${layer}.attn: the cache holds ${before.k.shape[0]} texts, this pass has ${k.shape[0]}; use one cache per batch`,
        )
      const all = before ? { k: concat([before.k, k], 2), v: concat([before.v, v], 2) } : { k, v }
      const total = all.k.shape[2]!
      const window = config.sliding[layer] ? (config.window ?? total + 1) - 1 : total
      const n = Math.min(total, window)
      // a slice, even of everything: what we hold is disposed by us alone
      held[layer] = { k: keep(last(all.k, n)), v: keep(last(all.v, n)) }
      if (before) dispose([before.k, before.v])
      if (layer === config.layers - 1) length += k.shape[2]!
      return all
    },
    select: (rows) => {
      for (const [layer, before] of held.entries()) {
        if (!before) continue
        held[layer] = tidy(() => {
          const index = tensor1d([...rows], 'int32')
          return { k: keep(gather(before.k, index)), v: keep(gather(before.v, index)) }
        })
        dispose([before.k, before.v])
      }
    },
    dispose: () => {
      dispose(held.flatMap((layer) => (layer ? [layer.k, layer.v] : [])))
      held.length = 0
      length = 0
    },
  }
}
