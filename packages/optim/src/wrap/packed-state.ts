import type { Codec, Params, Tensor, Tensor2D, Transform } from '@weftjs/spec'
import { dispose, isTensor, reshape, tensorsIn, tidy } from '@weftjs/tensor'

/** The format of a moment: `moment` is its key in the optimizer's state (`m`, `v`), `name` its parameter's. */
export type StateCodec = Codec<any> | ((moment: string, name: string) => Codec<any> | undefined)

export interface PackedStateOptions {
  /** one for all moments, or one for each; undefined leaves a moment in float32 */
  readonly codec: StateCodec
  /** tensors of fewer numbers stay in float32 (bitsandbytes' min_8bit_size) */
  readonly min?: number
}

/** a moment of one parameter as a matrix: its first axis by all others */
const matrixOf = (shape: readonly number[]): readonly [number, number] => {
  const size = shape.reduce((a, b) => a * b, 1)
  const out = shape.length > 1 ? shape[0]! : 1
  return [out, size / out]
}
type Leaf = (value: unknown, moment: string, name: string) => unknown

/** f of each value that stands under the name of a parameter, whatever lies around it; with `only`, of that name alone */
const walk = (state: unknown, params: Params, f: Leaf, only?: string, key = ''): unknown => {
  if (state === null || typeof state !== 'object' || isTensor(state)) return state
  if (Array.isArray(state)) return state.map((v) => walk(v, params, f, only, key))
  const found: Record<string, unknown> = {}
  for (const [k, v] of Object.entries(state)) {
    if (!Object.hasOwn(params, k)) found[k] = walk(v, params, f, only, k)
    else if (only === undefined || k === only) found[k] = f(v, key, k)
  }
  return found
}

/** `b` laid over `a`: objects by their keys, arrays by place, anything else as in `b` */
const over = (a: unknown, b: unknown, params: Params): unknown => {
  if (Array.isArray(a) && Array.isArray(b)) return b.map((v, i) => over(a[i], v, params))
  const plain = (v: unknown): v is object => v !== null && typeof v === 'object' && !Array.isArray(v) && !isTensor(v)
  if (!plain(a) || !plain(b)) return b
  const both: Record<string, unknown> = { ...a }
  for (const [k, v] of Object.entries(b))
    both[k] = Object.hasOwn(params, k) ? v : over((a as Record<string, unknown>)[k], v, params)
  return both
}

/**
 * Any optimizer with its moments in a codec's format: decoded, updated and encoded again one parameter after the other, so
 * that no two of them lie in float32 at once  —  Dettmers et al., arXiv:2110.02861 (8 bits); Li et al., arXiv:2309.01507 (4)
 *
 * The update itself sees the new moments before they are rounded, so the first step is that of the plain optimizer. What
 * lies in the state under a parameter's name, in its shape, is a moment of it; everything else stays as it is. `inner`
 * may look at one parameter at a time only: clip by a global norm before this, not within.
 */
export const packedState = <S>(inner: Transform<S>, { codec, min = 4096 }: PackedStateOptions): Transform<unknown> => {
  if (!(min >= 0)) throw new Error(`packedState: min must be at least 0, found ${min}`)
  const formatOf = (moment: string, name: string, shape: readonly number[]): Codec<any> | undefined =>
    shape.reduce((a, b) => a * b, 1) < min ? undefined : typeof codec === 'function' ? codec(moment, name) : codec
  const encode =
    (params: Params): Leaf =>
    (value, moment, name) => {
      const { shape } = params[name]!
      if (!isTensor(value) || value.dtype !== 'float32' || value.shape.join() !== shape.join()) return value
      const format = formatOf(moment, name, shape)
      return format ? format.encode(reshape(value, [...matrixOf(shape)]) as Tensor2D) : value
    }
  const decode =
    (params: Params): Leaf =>
    (value, moment, name) => {
      const { shape } = params[name]!
      const format = isTensor(value) ? undefined : formatOf(moment, name, shape)
      if (!format || !tensorsIn(value).length) return value
      const dense = reshape(format.decode(value as Params, matrixOf(shape)), [...shape])
      // from here on the moment is in `dense`
      dispose(tensorsIn(value))
      return dense
    }
  const one = (params: Params, name: string): Params => ({ [name]: params[name]! })
  return {
    init: (params) => {
      let state = inner.init({}) as unknown
      for (const name of Object.keys(params))
        state = over(
          state,
          tidy(() => walk(inner.init(one(params, name)), params, encode(params)) as never),
          params,
        )
      return state
    },
    update: (grads, state, params) => {
      const updates: Record<string, Tensor> = {}
      const names = Object.keys(grads)
      // counts of steps and the like: the same for every parameter
      let next = names.length
        ? state
        : over(state, inner.update({}, walk(state, params, (v) => v, '') as S, {})[1], params)
      for (const name of names) {
        const [u, s] = tidy(() => {
          const before = walk(state, params, decode(params), name)
          const [u, after] = inner.update(one(grads, name), before as S, one(params, name))
          return [u, walk(after, params, encode(params))] as never
        }) as unknown as [Params, unknown]
        Object.assign(updates, u)
        next = over(next, s, params)
      }
      return [updates, next]
    },
  }
}
