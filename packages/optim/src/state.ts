import type { Params, Tensor } from '@weftjs/spec'
import { isTensor } from '@weftjs/tensor'

/** A nested state as flat tensors and a JSON text of the rest: what a checkpoint file can hold. */
export interface PackedState {
  readonly tensors: Params
  readonly json: string
}

/** stands for a tensor in the JSON; no state has a field of this name */
const TENSOR = '$tensor'

/**
 * Takes apart a state of plain objects, arrays, numbers, strings, booleans, nulls and tensors. The tensors are the
 * state's own, under their paths (`state/0/m/blocks.0.attn.q`).
 * @throws Error for anything else, with its path
 */
export const packState = (state: unknown): PackedState => {
  const tensors: Record<string, Tensor> = {}
  const walk = (value: unknown, path: readonly string[]): unknown => {
    const place = path.join('/') || 'state'
    if (isTensor(value)) {
      tensors[place] = value
      return { [TENSOR]: place }
    }
    if (value === undefined || typeof value === 'function' || typeof value === 'bigint' || typeof value === 'symbol')
      throw new Error(`${place}: a ${typeof value} cannot be kept in a checkpoint; use plain values and tensors`)
    if (typeof value === 'number' && !Number.isFinite(value))
      throw new Error(`${place}: ${value} cannot be kept in a checkpoint`)
    if (Array.isArray(value)) return value.map((v, i) => walk(v, [...path, String(i)]))
    if (value === null || typeof value !== 'object') return value
    if (Object.getPrototypeOf(value) !== Object.prototype && Object.getPrototypeOf(value) !== null)
      throw new Error(`${place}: only plain objects can be kept in a checkpoint`)
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, walk(v, [...path, k])]))
  }
  return { json: JSON.stringify(walk(state, [])), tensors }
}

/** The state that `packState` took apart. @throws Error when a tensor is missing */
export const unpackState = ({ tensors, json }: PackedState): unknown => {
  const walk = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(walk)
    if (value === null || typeof value !== 'object') return value
    const place = (value as Record<string, unknown>)[TENSOR]
    if (typeof place === 'string') {
      if (!Object.hasOwn(tensors, place)) throw new Error(`${place}: the checkpoint lacks this tensor`)
      return tensors[place]
    }
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, walk(v)]))
  }
  return walk(JSON.parse(json))
}
