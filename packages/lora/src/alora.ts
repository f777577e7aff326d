import type { Adapter, Site } from '@weftjs/spec'
import { add, expandDims, linear, mul } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import { type LoraOptions, type LoraState, lora, loraScale, trainable as ofLora } from './lora.ts'
import { droppedWhile } from './shared/dropped.ts'
import { invoked } from './shared/invoked.ts'

export interface AloraOptions extends LoraOptions {
  /** ids of the sequence that calls the adapter: it acts from the first of them on, where they occur last */
  readonly tokens?: readonly number[]
}
export type AloraState = LoraState

/** numbers that train at a site: LoRA's */
export const trainable = (site: Site, options: AloraOptions = {}): number => ofLora(site, options)

/**
 * W·x, and W·x + (α/r)·B·A·x from the invocation on: what is cached of earlier tokens is the base's  —  Greenewald et al., arXiv:2504.12397
 */
export const alora = (options: AloraOptions = {}): Adapter<AloraState> => {
  const { tokens = [], dropout = 0, ...plain } = options
  const inner = lora({ ...plain, dropout })
  const at = loraScale(plain)
  return {
    name: 'alora',
    options: { ...options },
    init: (site, ctx) => {
      if (!tokens.length || tokens.some((t) => !Number.isInteger(t) || t < 0))
        throw new Error(
          `alora: tokens must be the ids of the sequence that calls it, found ${JSON.stringify(options.tokens) ?? 'none'}`,
        )
      if (site.kind !== 'linear' && site.kind !== 'head')
        throw new Error(`${site.name}: alora acts on linear places, and this is of kind ${site.kind}; narrow "at"`)
      return inner.init(site, ctx)
    },
    around: (next, x, { a, b, bias }, ctx) => {
      const on = invoked(ctx, tokens) // [B, T]
      if (x.rank !== 3 || x.shape[0] !== on.shape[0] || x.shape[1] !== on.shape[1])
        throw new Error(
          `${ctx.site.name}: x [${x.shape}] is not the tokens [${on.shape}] one by one, so that alora cannot tell which were called; narrow "at"`,
        )
      const factor = mul(expandDims(on, 2), at(ctx.site).factor) // [B, T, 1]
      const low = mul(droppedWhile(ctx, dropout, dense(a)).apply(x), factor) // [B, T, r]
      const y = add(next(x), linear(low, b)) // [B, T, out]
      return bias ? add(y, mul(bias, factor)) : y
    },
  }
}
