import type { Codec, Weight } from '@weftjs/spec'
import { matchNames } from '@weftjs/weight'
import type { Sensitivity } from './sensitivity.ts'

export interface MixedOptions {
  /** formats by globs over names; the first that matches counts, null leaves a matrix as it is */
  readonly rules?: readonly (readonly [pattern: string | readonly string[], codec: Codec<any> | null])[]
  /** for matrices that neither a rule nor the measurement knows; without it they stay as they are */
  readonly otherwise?: Codec<any>
  /** what `sensitivity` found; matrices of a rule are not chosen for, and do not count */
  readonly measured?: readonly Sensitivity[]
  /** bits a weight on the whole of the measured matrices, scales included */
  readonly bits?: number
}
/** what is given to `quantize`, and what it will do where that was measured */
export interface Mixed {
  (name: string, weight?: Weight): Codec<any> | undefined
  readonly table: readonly Sensitivity[]
  /** a weight, over the table */
  readonly bits: number
  /** Σ of what is lost */
  readonly loss: number
}

const cost = ({ bits, weights }: Sensitivity): number => bits * weights

/** those of one matrix that no line between others passes below, from the fewest bits on */
const hull = (all: readonly Sensitivity[]): Sensitivity[] => {
  const found: Sensitivity[] = []
  for (const next of [...all].sort((a, b) => cost(a) - cost(b) || a.loss - b.loss)) {
    if (found.length && next.loss >= found.at(-1)!.loss) continue
    const steep = (a: Sensitivity, b: Sensitivity): number => (a.loss - b.loss) / (cost(b) - cost(a))
    while (found.length > 1 && steep(found.at(-2)!, found.at(-1)!) <= steep(found.at(-1)!, next)) found.pop()
    found.push(next)
  }
  return found
}

const total = (chosen: readonly Sensitivity[], of: (s: Sensitivity) => number): number =>
  chosen.reduce((n, c) => n + of(c), 0)

/** along the hulls by what a bit brings, from the fewest bits on, as far as the budget goes */
const alongHulls = (lists: readonly (readonly Sensitivity[])[], budget: number): Sensitivity[] => {
  const hulls = lists.map(hull)
  const chosen = hulls.map((h) => h[0]!)
  let spent = total(chosen, cost)
  const steps = hulls.flatMap((h, i) =>
    h.slice(1).map((to, k) => ({ i, to, gain: (h[k]!.loss - to.loss) / (cost(to) - cost(h[k]!)) })),
  )
  // a hull is convex, so its own steps come in their order
  for (const { i, to } of steps.sort((a, b) => b.gain - a.gain || a.i - b.i)) {
    const more = cost(to) - cost(chosen[i]!)
    if (spent + more > budget) break
    chosen[i] = to
    spent += more
  }
  return chosen
}
/** with whatever is better and still fits, the largest gain first */
const filled = (lists: readonly (readonly Sensitivity[])[], start: Sensitivity[], budget: number): Sensitivity[] => {
  const chosen = [...start]
  for (let spent = total(chosen, cost); ; ) {
    let best: { i: number; to: Sensitivity; gain: number } | undefined
    lists.forEach((list, i) => {
      for (const to of list) {
        const gain = chosen[i]!.loss - to.loss
        if (spent + cost(to) - cost(chosen[i]!) <= budget && gain > (best?.gain ?? 0)) best = { i, to, gain }
      }
    })
    if (!best) return chosen
    spent += cost(best.to) - cost(chosen[best.i]!)
    chosen[best.i] = best.to
  }
}

/** a choice within the budget that loses no more than any one format for all that fits it */
const chosenOf = (measured: readonly Sensitivity[], bits: number): Sensitivity[] => {
  const byName = new Map<string, Sensitivity[]>()
  for (const m of measured) byName.set(m.name, [...(byName.get(m.name) ?? []), m])
  const lists = [...byName.values()]
  const budget =
    bits *
    total(
      lists.map((l) => l[0]!),
      (s) => s.weights,
    ) *
    (1 + 1e-9)
  const least = alongHulls(lists, 0)
  if (total(least, cost) > budget)
    throw new Error(
      `mixed: the smallest formats take ${((total(least, cost) / budget) * bits).toFixed(3)} bits a weight, the budget is ${bits}; raise it, or measure smaller ones`,
    )
  const even = [...new Set(measured.map((m) => m.codec))].flatMap((codec) => {
    const all = lists.flatMap((list) => list.filter((m) => m.codec === codec).slice(0, 1))
    return all.length === lists.length && total(all, cost) <= budget ? [all] : []
  })
  return [alongHulls(lists, budget), ...even]
    .map((start) => filled(lists, start, budget))
    .reduce((a, b) => (total(b, (s) => s.loss) < total(a, (s) => s.loss) ? b : a))
}

/**
 * A format for each matrix, by rules and by what each was measured to lose, under a budget of bits: min Σ loss, Σ bits ≤ B  —  Wang et al., arXiv:2402.03666, by the allocation of Shoham & Gersho, 1988
 *
 * Losses add up as if matrices did not know of each other, which the measurement assumes as well. The result goes to
 * `quantize` in place of a codec. @family quant
 */
export const mixed = ({ rules = [], otherwise, measured = [], bits }: MixedOptions): Mixed => {
  if (measured.length && !(bits !== undefined && bits > 0))
    throw new Error(`mixed: bits must be above 0 where the choice is measured, found ${bits}`)
  if (!measured.length && !rules.length && !otherwise)
    throw new Error('mixed: nothing to choose by; give rules, or what sensitivity measured and bits')
  const odd = measured.find((m) => !Number.isFinite(m.loss) || !(m.bits > 0))
  if (odd)
    throw new Error(`${odd.name}: in ${odd.codec.name} it loses ${odd.loss} at ${odd.bits} bits; measure it again`)
  const ruled = rules.map(([pattern, codec]) => [matchNames(pattern), codec] as const)
  const rule = (name: string) => ruled.find(([matches]) => matches(name))
  const free = measured.filter(({ name }) => !rule(name))
  const table = free.length ? chosenOf(free, bits!) : []
  const byName = new Map(table.map((m) => [m.name, m.codec]))
  const choose = (name: string): Codec<any> | undefined => {
    const found = rule(name)
    return found ? (found[1] ?? undefined) : (byName.get(name) ?? otherwise)
  }
  const weights = table.reduce((n, m) => n + m.weights, 0)
  return Object.assign(choose, {
    table,
    bits: weights ? table.reduce((n, m) => n + cost(m), 0) / weights : 0,
    loss: table.reduce((n, m) => n + m.loss, 0),
  })
}
