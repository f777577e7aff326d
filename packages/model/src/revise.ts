import type { Params, Revisable, Tensor } from '@weftjs/spec'
import { clone, disposeReplaced, keep, rng as newRng } from '@weftjs/tensor'
import { type Tuned, tunedOf } from './attach.ts'
import { type Bound, stateOf } from './bind.ts'

export interface RevisingOptions {
  /** steps of the whole run, which budgets are spread over */
  readonly steps: number
  readonly seed?: number
}
/** What stands after a revision, by the names of `params`. */
export interface RevisedParams {
  readonly params: Params
  /** all that moved among the constants so far */
  readonly buffers: Params
  readonly moments: Readonly<Record<string, (moment: Tensor, name: string) => Tensor>>
}
/** A network whose adapters revise themselves while they train. */
export interface Revising {
  /** does any adapter here revise? */
  readonly active: boolean
  /** the passes, with the fixed tensors as they are now; another object after a revision */
  readonly tuned: Tuned
  readonly run: Tuned['run']
  /** what moved among the constants, to save beside the params; owned here */
  readonly buffers: Params
  /** goes on from saved buffers, which are given away. @throws Error for a tensor that no adapter here holds */
  load(buffers: Params): void
  /** may a revision change the shape of this tensor? */
  owns(name: string): boolean
  /**
   * To be called after an optimizer's step, in a tidy: `step` steps are done, this one included. Of the params that it
   * returns those that stayed are the given ones. @throws Error where an adapter revises what it does not hold
   */
  readonly revise: ((params: Params, grads: Params, step: number) => RevisedParams) & {
    /** what it may read beside its arguments */
    reads(): readonly Tensor[]
  }
}

/** The adapters' `revise` beside training; without such an adapter it gives back what it is given. */
export const revising = (start: Tuned, { steps, seed = 0 }: RevisingOptions): Revising => {
  const noise = newRng(seed).fork('revise')
  const groups = new Map<string, Bound[]>()
  for (const b of start.bound) if (b.adapter.revise) groups.set(b.name, [...(groups.get(b.name) ?? []), b])
  const owned = new Set([...groups.values()].flat().flatMap((b) => b.keys.map((key) => `${b.prefix}.${key}`)))
  let buffers: Params = {}
  let tuned = start
  const put = (next: Params): void => {
    disposeReplaced(buffers, next)
    buffers = next
    tuned = tunedOf({ ...start, constants: { ...start.constants, ...buffers } })
  }
  const revise = (params: Params, grads: Params, step: number): RevisedParams => {
    const all = { ...tuned.constants, ...params }
    const next: Record<string, Tensor> = { ...params }
    const moved: Record<string, Tensor> = {}
    const moments: Record<string, (moment: Tensor, name: string) => Tensor> = {}
    for (const [name, list] of groups) {
      const bound = new Map(list.map((b) => [b.site.name, b]))
      const sites: Record<string, Revisable> = {}
      for (const b of list) sites[b.site.name] = { site: b.site, state: stateOf(b, all), grads: stateOf(b, grads) }
      const found = list[0]!.adapter.revise!(sites, { step, steps, rng: noise.fork(name).fork(step) })
      for (const [site, revision] of Object.entries(found)) {
        const b = bound.get(site)
        const nameOf = (key: string): string => {
          if (b?.keys.includes(key)) return `${b.prefix}.${key}`
          throw new Error(`${site}: '${name}' revises ${key}, which it does not hold there; return it from init`)
        }
        for (const [key, tensor] of Object.entries(revision.state)) {
          const full = nameOf(key)
          if (!tensor || tensor === all[full]) continue
          // a clone, for a revision may give one tensor to two places
          ;(full in params ? next : moved)[full] = clone(tensor)
        }
        for (const [key, f] of Object.entries(revision.moments ?? {})) if (f) moments[nameOf(key)] = f
      }
    }
    if (Object.keys(moved).length) {
      for (const t of Object.values(moved)) keep(t)
      put({ ...buffers, ...moved })
    }
    return { params: next, buffers, moments }
  }
  return {
    active: groups.size > 0,
    get tuned() {
      return tuned
    },
    get buffers() {
      return buffers
    },
    run: (...given) => tuned.run(...given),
    owns: (name) => owned.has(name),
    load: (saved) => {
      const odd = Object.keys(saved).find((n) => !owned.has(n) || !(n in start.constants))
      if (odd !== undefined)
        throw new Error(`${odd}: no adapter here keeps such a tensor; go on with the adapters that the run began with`)
      put(saved)
    },
    revise: Object.assign(revise, {
      reads: () => [...owned].flatMap((n) => tuned.constants[n] ?? []),
    }),
  }
}
