import { add, dispose, keep, mul, type Scalar, type Tensor } from '@tensorflow/tfjs-core'
import type { Params } from '@weftjs/spec'

/** apply f to every tensor, by name */
export const mapParams = <T>(params: Params, f: (t: Tensor, name: string) => T): Record<string, T> =>
  Object.fromEntries(Object.entries(params).map(([n, t]) => [n, f(t, n)]))

/** the tensors whose names pass */
export const selectParams = (params: Params, passes: (name: string) => boolean): Params =>
  Object.fromEntries(Object.entries(params).filter(([n]) => passes(n)))

/** p + u where u has an entry, p itself (the same tensor) elsewhere */
export const applyUpdates = (params: Params, updates: Params): Params =>
  mapParams(params, (p, n) => (updates[n] ? add(p, updates[n]) : p))

export const scaleParams = (params: Params, s: number | Scalar): Params => mapParams(params, (t) => mul(t, s))

/** keep every tensor beyond the surrounding tidy */
export const keepParams = <P extends Params>(params: P): P => {
  for (const t of Object.values(params)) keep(t)
  return params
}

/** dispose the tensors of `old` that are not also in `fresh` (by identity); both may be nested objects and arrays */
export const disposeReplaced = (old: unknown, fresh: unknown): void => {
  const alive = new Set(tensorsIn(fresh))
  dispose(tensorsIn(old).filter((t) => !alive.has(t) && !t.isDisposed))
}

/** all tensors of a nested structure of plain objects and arrays */
export const tensorsIn = (value: unknown, seen: Set<unknown> = new Set()): Tensor[] => {
  if (value === null || typeof value !== 'object' || seen.has(value)) return []
  seen.add(value)
  if (isTensor(value)) return [value]
  if (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype)
    return Object.values(value).flatMap((v) => tensorsIn(v, seen))
  return []
}

/** the same structure of plain objects and arrays, with f of each tensor */
export const mapTensors = <T>(value: T, f: (t: Tensor) => Tensor): T => {
  if (isTensor(value)) return f(value) as T
  if (Array.isArray(value)) return value.map((v) => mapTensors(v, f)) as T
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, mapTensors(v, f)])) as T
}

export const isTensor = (value: unknown): value is Tensor =>
  typeof value === 'object' && value !== null && 'dataId' in value && 'rankType' in value

export const countParams = (params: Params): number => Object.values(params).reduce((n, t) => n + t.size, 0)
const BYTES: Record<string, number> = { float32: 4, int32: 4, bool: 1, complex64: 8 }
/** bytes that the tensors hold */
export const bytesOf = (params: Params): number =>
  Object.values(params).reduce((n, t) => n + t.size * (BYTES[t.dtype] ?? 4), 0)
