/**
 * The optimizer's part of a step, written over tensors whose data nobody else holds. A tensor that shares its data (with
 * a clone, say) is left as it is and a new one takes its place, so that no change is seen elsewhere. Nothing here is
 * recorded for gradients.
 */
import {
  add,
  backend,
  div,
  mul,
  type Scalar,
  scalar,
  sqrt,
  square,
  sum,
  type Tensor,
  tidy,
} from '@tensorflow/tfjs-core'
import type { Params } from '@weftjs/spec'
import { engine, named } from '../engine.ts'
import { kernels } from '../kernel.ts'

/** gradient and moments of one parameter, all of one shape; its value where it decays */
export interface AdamPart {
  readonly g: Tensor
  readonly m: Tensor
  readonly v: Tensor
  readonly p: Tensor | undefined
}
export interface AdamSettings {
  readonly b1: number
  readonly b2: number
  readonly eps: number
  /** λ of the parameters that decay */
  readonly decay: number
  /** of the whole update: 1 for a direction, −lr for a step downhill */
  readonly scale: number
  /** from 1 on: corrects the moments for their start at zero */
  readonly step: number
}

/**
 * What a backend does in place. All tensors are float32 and not empty, and nobody else holds the data of those that are
 * written. False or undefined declines, with nothing changed.
 */
export interface InPlace {
  /** m ← b1·m + (1−b1)·g, v ← b2·v + (1−b2)·g², g ← scale·(m̂/(√v̂ + ε) + λ·p), for all parts */
  readonly adam?: (parts: readonly AdamPart[], settings: AdamSettings) => boolean
  /** Σ‖t‖² over all tensors, a scalar; writes nothing */
  readonly squares?: (tensors: readonly Tensor[]) => Tensor | undefined
  /** t ← s·t, s a scalar */
  readonly scale?: (tensors: readonly Tensor[], s: Tensor) => boolean
  /** y ← y + s·x */
  readonly add?: (pairs: readonly (readonly [y: Tensor, x: Tensor])[], s: number) => boolean
}
/** by the backend's name */
export const inPlaceOn: Record<string, InPlace> = {}

const fast = (): InPlace => (kernels.plain ? {} : (inPlaceOn[engine().backendName] ?? {}))
const floats = (tensors: readonly (Tensor | undefined)[]): boolean =>
  tensors.length > 0 && tensors.every((t) => !t || (t.dtype === 'float32' && t.size > 0))
/** the tensor itself where its data is its own, a copy elsewhere */
const own = (t: Tensor): Tensor => (backend().refCount(t.dataId) === 1 ? t : mul(t, 1))
const each = <T>(params: Params, f: (t: Tensor, name: string) => T): Record<string, T> =>
  Object.fromEntries(Object.entries(params).map(([n, t]) => [n, f(t, n)]))

export interface AdamResult {
  readonly updates: Params
  readonly m: Params
  readonly v: Params
}

const plainAdam = (
  { updates: grads, m, v }: AdamResult,
  decaying: Params,
  { b1, b2, eps, decay, scale, step }: AdamSettings,
): AdamResult => {
  const next = {
    m: each(grads, (g, n) => add(mul(m[n]!, b1), mul(g, 1 - b1))),
    v: each(grads, (g, n) => add(mul(v[n]!, b2), mul(square(g), 1 - b2))),
  }
  const root = Math.sqrt(1 - b2 ** step)
  const updates = each(next.m, (m, n) => {
    const u = div(mul(m, 1 / (1 - b1 ** step)), add(mul(sqrt(next.v[n]!), 1 / root), eps))
    const p = decay ? decaying[n] : undefined
    return mul(p ? add(u, mul(p, decay)) : u, scale)
  })
  return { updates, ...next }
}

/**
 * One step of Adam for all tensors: scale·(m̂/(√v̂ + ε) + λ·p) and the new moments  —  Kingma & Ba, arXiv:1412.6980.
 * The gradients become the updates and the moments are changed in place where that is sound. `decaying` holds the
 * parameters that decay; none is changed.
 */
export const adamUpdates = (
  grads: Params,
  { m, v }: Omit<AdamResult, 'updates'>,
  decaying: Params,
  settings: AdamSettings,
): AdamResult => {
  const { adam } = fast()
  const names = Object.keys(grads)
  if (!adam || !floats(names.flatMap((n) => [grads[n], m[n], v[n], decaying[n]])))
    return plainAdam({ updates: grads, m, v }, decaying, settings)
  const of = (params: Params): Params => Object.fromEntries(names.map((n) => [n, own(params[n]!)]))
  const found = { updates: of(grads), m: of(m), v: of(v) }
  const parts = names.map((n) => ({
    g: found.updates[n]!,
    m: found.m[n]!,
    v: found.v[n]!,
    p: settings.decay ? decaying[n] : undefined,
  }))
  return named('Adam', () => adam(parts, settings)) ? found : plainAdam({ updates: grads, m, v }, decaying, settings)
}

const squares = (tensors: readonly Tensor[]): Tensor =>
  (floats(tensors) ? named('GlobalNorm', () => fast().squares?.(tensors)) : undefined) ??
  tensors.reduce<Tensor>((s, t) => tidy(() => add(s, sum(square(t)))), scalar(0))

/** √Σ‖t‖² over all tensors */
export const globalNorm = (params: Params): Scalar => tidy(() => sqrt(squares(Object.values(params)))) as Scalar

/** s·t for each, in place where that is sound */
export const scaleInPlace = (params: Params, s: number | Scalar): Params => {
  const { scale } = fast()
  const tensors = Object.values(params)
  if (!scale || !floats(tensors)) return each(params, (t) => mul(t, s))
  const found = each(params, own)
  const factor = typeof s === 'number' ? scalar(s) : s
  return named('ScaleInPlace', () => scale(Object.values(found), factor)) ? found : each(params, (t) => mul(t, s))
}

/** y + x, over y where that is sound */
export const addTo = (y: Tensor, x: Tensor): Tensor => {
  const { add: into } = fast()
  if (!into || !floats([y, x]) || backend().refCount(y.dataId) !== 1) return add(y, x)
  return into([[y, x]], 1) ? y : add(y, x)
}

/** y + s·x where x has an entry, in place where that is sound; y itself elsewhere */
export const addInPlace = (params: Params, others: Params, s = 1): Params => {
  const names = Object.keys(params).filter((n) => others[n])
  const plain = (): Params => each(params, (y, n) => (others[n] ? add(y, s === 1 ? others[n] : mul(others[n], s)) : y))
  if (!names.length) return params
  const { add: into } = fast()
  if (!into || !floats(names.flatMap((n) => [params[n], others[n]]))) return plain()
  const found = each(params, (y, n) => (others[n] ? own(y) : y))
  const pairs = names.map((n) => [found[n]!, others[n]!] as const)
  return named('AddInPlace', () => into(pairs, s)) ? found : plain()
}
