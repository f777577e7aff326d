import type { Adapter, Site, Tensor, Tensor1D, Tensor2D } from '@weftjs/spec'
import { concat, linear, pad, reshape, split, tanh, tile, transpose, zeros } from '@weftjs/tensor'
import { gatedPrefix } from './shared/gated-prefix.ts'
import { kaiming, mustBeWhole } from './shared/start.ts'

export interface PrefixOptions {
  /** l, tokens that stand before every text */
  readonly length?: number
  /** hidden units of a perceptron that makes keys and values from one embedding, common to all layers (the paper: 800); 0 trains them directly */
  readonly hidden?: number
  /**
   * Put before the keys and values, or a gate between two attentions: the same function, by He et al., but where attention
   * slides: what stands before the keys slides out of sight, and the gate keeps it.
   */
  readonly form?: 'concat' | 'gated'
}
export interface PrefixState extends Record<string, Tensor> {
  /** Pₖ and Pᵥ [l, G·S] */
  keys?: Tensor2D
  values?: Tensor2D
  /** of the perceptron [2·G·S, hidden], [2·G·S] */
  out?: Tensor2D
  outBias?: Tensor1D
}

/** keys and values of one token: 2·G·S */
const widthOf = ({ name, block }: Site): number => {
  if (!block) throw new Error(`${name}: there are no keys and values here; put prefixes at 'blocks.*.attn.core'`)
  return 2 * block.kvHeads * block.headWidth
}

/** numbers that train at a site: 2·l·d, d the width of all key heads; with a perceptron 2·d·(hidden + 1) */
export const trainable = (site: Site, { length = 30, hidden = 0 }: PrefixOptions = {}): number =>
  widthOf(site) * (hidden ? hidden + 1 : length)

/** Attn(q, [Pₖ; K], [Pᵥ; V])  —  Li and Liang, arXiv:2101.00190 */
export const prefix = (options: PrefixOptions = {}): Adapter<PrefixState> => {
  const { length = 30, hidden = 0, form = 'concat' } = options
  mustBeWhole('prefix', 'length', length)
  mustBeWhole('prefix', 'hidden', hidden, 0)
  if (form !== 'concat' && form !== 'gated') throw new Error(`prefix: form is 'concat' or 'gated', found '${form}'`)
  return {
    name: 'prefix',
    options: { ...options },
    init: (site, { rng, shared }) => {
      if (site.kind !== 'core')
        throw new Error(`${site.name}: a prefix stands before keys and values; put it at 'blocks.*.attn.core'`)
      if (form === 'gated' && site.block?.softcap)
        throw new Error(
          `${site.name}: scores are capped here, and the gated form has no prefix logits of its own for that; use 'concat'`,
        )
      const [width, d] = [widthOf(site), site.in]
      const normal = (): Tensor2D => rng.normal([length, width / 2], 0.02) as Tensor2D
      if (!hidden) return { state: { keys: normal(), values: normal() } }
      shared('tokens', (rng) => rng.normal([length, d], 1), { trains: true })
      shared('inner', (rng) => kaiming(rng, [hidden, d]), { trains: true })
      shared('innerBias', () => zeros([hidden]), { trains: true })
      return {
        state: { out: kaiming(rng, [width, hidden]) as Tensor2D, outBias: zeros([width]) as Tensor1D },
      }
    },
    attend: (next, x, { keys, values, out, outBias }, { site, shared }) => {
      const [B, G, , S] = x.k.shape as [number, number, number, number]
      const [pk, pv] = keys
        ? [keys, values!]
        : (split(
            linear(tanh(linear(shared['tokens']!, shared['inner']!, shared['innerBias'])), out!, outBias),
            2,
            -1,
          ) as [Tensor, Tensor]) // [l, G·S] each
      const heads = (p: Tensor): Tensor => tile(transpose(reshape(p, [1, length, G, S]), [0, 2, 1, 3]), [B, 1, 1, 1]) // [B, G, l, S]
      if (form === 'gated') return gatedPrefix(next, x, heads(pk), heads(pv), site.block!)
      // as keys that came before all others they are seen by every query
      return next({
        ...x,
        k: concat([heads(pk), x.k], 2), // [B, G, l + K, S]
        v: concat([heads(pv), x.v], 2),
        ...(x.bias && {
          bias: pad(x.bias, [...x.bias.shape.slice(1).map((): [number, number] => [0, 0]), [length, 0]]),
        }),
      })
    },
  }
}
