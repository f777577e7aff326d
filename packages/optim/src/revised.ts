import type { Params, Tensor } from '@weftjs/spec'
import { isTensor, mapTensors, tensorsIn, zeros } from '@weftjs/tensor'

/** What stands after a revision: the same names, perhaps of other shapes, and what becomes of the optimizer's moments. */
export interface Revised {
  readonly params: Params
  /** by name; by default a moment stays, and begins anew where its parameter's shape changed */
  readonly moments?: Readonly<Record<string, (moment: Tensor, name: string) => Tensor>>
}

const same = (a: readonly number[], b: readonly number[]): boolean => a.join() === b.join()

/**
 * The optimizer's state after a revision. Any state is walked: what stands under a parameter's name belongs to it, and is
 * called by the key above (`m`, `v`). `fresh` gives the state that the new parameters would begin with.
 */
export const revisedState = (
  state: unknown,
  before: Readonly<Record<string, readonly number[]>>,
  { params, moments = {} }: Revised,
  fresh: () => unknown,
): unknown => {
  const reshaped = new Set(Object.keys(before).filter((n) => !same(before[n]!, params[n]!.shape)))
  if (!reshaped.size && !Object.keys(moments).length) return state
  const of = (param: string, value: unknown, anew: unknown, name: string): unknown => {
    const changed = reshaped.has(param)
    const f = moments[param]
    const fits = (t: Tensor): boolean => same(t.shape, before[param]!)
    // a state of another layout (factored, packed) cannot be moved along
    if (f && (!changed || tensorsIn([value]).every(fits))) return mapTensors(value, (t) => (fits(t) ? f(t, name) : t))
    if (!changed) return value
    return anew ?? mapTensors(value, () => zeros([...params[param]!.shape]))
  }
  const walk = (value: unknown, anew: unknown, name: string): unknown => {
    if (value === null || typeof value !== 'object' || isTensor(value)) return value
    const below = (k: string | number): unknown => (anew as Record<string | number, unknown> | null | undefined)?.[k]
    if (Array.isArray(value)) return value.map((v, i) => walk(v, below(i), String(i)))
    return Object.fromEntries(
      Object.entries(value).map(([k, v]) => [
        k,
        Object.hasOwn(before, k) ? of(k, v, below(k), name) : walk(v, below(k), k),
      ]),
    )
  }
  return walk(state, reshaped.size ? fresh() : undefined, 'state')
}
