import type { Choice, Rng } from '@weftjs/spec'
import { sizeIn, tensorNames } from './names.ts'

export interface ApetTensorsOptions {
  /** N: no more numbers train */
  readonly budget: number
}

/** Units in a random order, each taken that fits in what is left of the budget: tensors by name, or modules to attach. */
export const drawUnits = (units: Readonly<Record<string, number>>, budget: number, rng: Rng): string[] => {
  const names = Object.keys(units)
  const order = rng.numbers(names.length)
  const shuffled = names.map((name, i) => ({ name, at: order[i]! })).sort((a, b) => a.at - b.at)
  let left = budget
  const found = shuffled.flatMap(({ name }) => {
    const size = units[name]!
    if (size > left) return []
    left -= size
    return [name]
  })
  if (found.length) return found
  throw new Error(
    `apet: a budget of ${budget} is less than any unit has (${Math.min(...Object.values(units))}); raise it`,
  )
}

/**
 * A random set of whole tensors of at most N numbers trains  —  Su et al., arXiv:2306.02320
 *
 * The authors spend N/2 so, and N/2 on modules beside the network (LoRA's pair, an adapter), drawn by `drawUnits`; what is
 * not drawn is not attached.
 * @family lora
 */
export const apetTensors =
  ({ budget }: ApetTensorsOptions): Choice =>
  (network, _, rng) =>
    drawUnits(Object.fromEntries(tensorNames(network).map((n) => [n, sizeIn(network, n)])), budget, rng)
