import type { Params, Tensor } from '@weftjs/spec'
import { isTensor } from '@weftjs/tensor'

/** the mark of a tensor in the JSON: the only key of its object */
const TENSOR = '$tensor'

export interface PackedState {
  /** by their place in the state: `0/m/blocks.0.attn.q.lora.a` */
  readonly tensors: Params
  readonly json: string
}

/**
 * An optimizer's state as a checkpoint keeps it: its tensors by name, and JSON for the rest. Takes plain objects,
 * arrays, strings, booleans, null, finite numbers and tensors.
 * @throws Error that names the place of anything else
 */
export const packState = (state: unknown): PackedState => {
  const tensors: Record<string, Tensor> = {}
  const pack = (value: unknown, path: string): unknown => {
    const refuse = (what: string): never => {
      throw new Error(`${path || 'state'}: ${what} cannot be kept in a checkpoint; use plain data and tensors`)
    }
    if (isTensor(value)) {
      let name = path || 'state'
      while (Object.hasOwn(tensors, name)) name += '_' // 'a/b' within 'c', and 'b' within 'c/a'
      tensors[name] = value
      return { [TENSOR]: name }
    }
    if (typeof value === 'number' && !Number.isFinite(value)) refuse(String(value))
    // JSON has no −0
    if (Object.is(value, -0)) return { [TENSOR]: null, number: '-0' }
    if (value === null || ['number', 'string', 'boolean'].includes(typeof value)) return value
    if (Array.isArray(value)) return Array.from(value, (v, i) => pack(v, path ? `${path}/${i}` : String(i)))
    if (typeof value !== 'object') return refuse(value === undefined ? 'undefined' : `a ${typeof value}`)
    const prototype = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null) refuse('an object of a class')
    if (TENSOR in value) refuse(`the key '${TENSOR}'`)
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, pack(v, path ? `${path}/${k}` : k)]))
  }
  const plain = pack(state, '')
  return { tensors, json: JSON.stringify(plain) }
}

/**
 * The state again; its tensors are those of `tensors`, not copies.
 * @throws Error for JSON that is damaged, or that names a tensor which is not there
 */
export const unpackState = ({ tensors, json }: PackedState): unknown => {
  const unpack = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(unpack)
    if (typeof value !== 'object' || value === null) return value
    const name = Object.hasOwn(value, TENSOR) ? (value as Record<string, unknown>)[TENSOR] : undefined
    if (name === null) return -0
    if (name !== undefined) {
      if (typeof name === 'string' && Object.hasOwn(tensors, name)) return tensors[name]
      throw new Error(`the optimizer's state names a tensor '${name}' that is not in the checkpoint; start it anew`)
    }
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, unpack(v)]))
  }
  let plain: unknown
  try {
    plain = JSON.parse(json)
  } catch (error) {
    throw new Error(`the optimizer's state is not valid JSON (${(error as Error).message}); start it anew`)
  }
  return unpack(plain)
}
