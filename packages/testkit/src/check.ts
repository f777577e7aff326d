import type { Params, Tensor } from '@weftjs/spec'
import { memory, tidy } from '@weftjs/tensor'

/** One law of a contract: `run` throws where it is broken. Plain functions, so that a suite can itself be tested. */
export interface Check {
  readonly name: string
  run(): void | Promise<void>
}
export interface Failure {
  readonly name: string
  readonly message: string
}

/** The checks that do not hold, each with what was found. */
export const failures = async (checks: readonly Check[]): Promise<Failure[]> => {
  const found: Failure[] = []
  for (const { name, run } of checks)
    try {
      await run()
    } catch (error) {
      found.push({ name, message: error instanceof Error ? error.message : String(error) })
    }
  return found
}

/** @throws Error with the message when the condition does not hold */
export const must = (condition: boolean, message: string | (() => string)): void => {
  if (!condition) throw new Error(typeof message === 'string' ? message : message())
}

/** max |a − b|, infinite where one of them is not a number */
export const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY
  let worst = 0
  for (let i = 0; i < a.length; i++) {
    const d = a[i] === b[i] ? 0 : Math.abs(a[i]! - b[i]!)
    if (Number.isNaN(d)) return Number.POSITIVE_INFINITY
    worst = Math.max(worst, d)
  }
  return worst
}
const largest = (a: ArrayLike<number>): number => {
  let most = 0
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]!))
  return most
}

/** a equals b within `tolerance` of the largest number (at least 1) in b; shapes too */
export const mustEqual = async (a: Tensor, b: Tensor, what: string, tolerance = 1e-5): Promise<void> => {
  must(a.shape.join() === b.shape.join(), `${what}: shapes [${a.shape}] and [${b.shape}] differ`)
  const [x, y] = [await a.data(), await b.data()]
  const d = distance(x, y)
  const bound = tolerance * Math.max(1, largest(y))
  must(d <= bound, `${what}: differ by ${d.toExponential(2)}, at most ${bound.toExponential(2)} is allowed`)
}

export const mustBeFinite = async (t: Tensor, what: string): Promise<void> => {
  const odd = [...(await t.data())].find((v) => !Number.isFinite(v))
  must(odd === undefined, `${what}: has a ${odd}`)
}
export const allFinite = async (params: Params, what: string): Promise<void> => {
  for (const [name, t] of Object.entries(params)) await mustBeFinite(t, `${what} of ${name}`)
}

/** copies of all values, to compare with later */
export const snapshot = async (params: Params): Promise<Map<string, ArrayLike<number>>> => {
  const found = new Map<string, ArrayLike<number>>()
  for (const [name, t] of Object.entries(params)) found.set(name, Float64Array.from(await t.data()))
  return found
}
export const mustBeUnchanged = async (
  params: Params,
  before: ReadonlyMap<string, ArrayLike<number>>,
  what: string,
): Promise<void> => {
  for (const [name, t] of Object.entries(params)) {
    must(!t.isDisposed, `${what}: ${name} was disposed`)
    const d = distance(await t.data(), before.get(name)!)
    must(d === 0, `${what}: ${name} changed by ${d.toExponential(2)}`)
  }
}

/** tensors that `run` leaves behind when its result is dropped */
export const leaked = (run: () => void): number => {
  const before = memory().numTensors
  tidy(() => {
    run()
  })
  return memory().numTensors - before
}

export const mustThrow = (run: () => unknown, what: string): Error => {
  try {
    run()
  } catch (error) {
    return error as Error
  }
  throw new Error(`${what}: nothing was thrown`)
}
