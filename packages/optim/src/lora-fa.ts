import type { Params, Transform } from '@weftjs/spec'
import { add, eye, invert, mapParams, matMul, mul, type Tensor, zerosLike } from '@weftjs/tensor'
import { type AdamwOptions, adamw } from './adamw.ts'

/** AdamW's options, unless another optimizer is given */
export interface LoraFaOptions extends AdamwOptions {
  /** s = α/r of the adapters, or of the one that holds a tensor `.b` */
  readonly factor?: number | ((name: string) => number)
}
interface LoraFaState {
  /** (A·Aᵀ)⁻¹ [r, r] by the name of B */
  readonly inverse: Params
  readonly inner: unknown
}

/** names of the pairs: of A by that of B */
const pairs = (params: Params): ReadonlyMap<string, string> =>
  new Map(
    Object.keys(params).flatMap((b) => {
      const a = b.replace(/\.b$/, '.a')
      const fits =
        a !== b && params[a]?.rank === 2 && params[b]!.rank === 2 && params[a].shape[0] === params[b]!.shape[1]
      return fits ? [[b, a] as const] : []
    }),
  )

/**
 * A stays as it began; g_B ← g_B·(A·Aᵀ)⁻¹/s², nearest to the whole weight's gradient  —  Zhang et al., arXiv:2308.03303
 * @family lora
 *
 * Around any optimizer; what is no pair of `a` and `b` goes to it unchanged. A does not move, so its inverse
 * is made once. As PEFT's optimizer, which also gives B the gradient that is nearest to full tuning's.
 */
export const loraFa = (
  { factor = 1, ...rest }: LoraFaOptions = {},
  inner: Transform<any> = adamw(rest),
): Transform<LoraFaState> => {
  const scale = typeof factor === 'number' ? () => factor : factor
  const moving = (params: Params, fixed: ReadonlySet<string>): Params =>
    Object.fromEntries(Object.entries(params).filter(([n]) => !fixed.has(n)))
  return {
    init: (params) => {
      const found = pairs(params)
      const inverse: Record<string, Tensor> = {}
      for (const [b, a] of found) {
        const s = scale(b)
        if (!(s > 0 && Number.isFinite(s))) throw new Error(`loraFa: factor of ${b} must be above 0, found ${s}`)
        const gram = matMul(params[a]!, params[a]!, false, true) // [r, r]
        inverse[b] = mul(invert(add(gram, mul(eye(gram.shape[0]!), 1e-8))), 1 / (s * s))
      }
      return { inverse, inner: inner.init(moving(params, new Set(found.values()))) }
    },
    update: (grads, { inverse, inner: state }, params) => {
      const fixed = new Set(pairs(params).values())
      const turned = mapParams(moving(grads, fixed), (g, n) => (inverse[n] ? matMul(g, inverse[n]) : g))
      const [updates, next] = inner.update(turned, state, moving(params, fixed))
      const still = mapParams(moving(grads, new Set(Object.keys(turned))), (g) => zerosLike(g))
      return [
        { ...updates, ...still },
        { inverse, inner: next },
      ]
    },
  }
}
