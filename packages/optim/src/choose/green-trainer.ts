import type { Choice, Estimator, Loss, Network, Params, Site, Transform } from '@weftjs/spec'
import { applyUpdates, backprop, mapParams, mul, sum, tidy } from '@weftjs/tensor'
import { tensorsOf } from './names.ts'

/** A tensor on the way of the error from output to input: cost of its gradient, and of passing the error on through it. */
export interface TensorCost {
  readonly name: string
  readonly dw: number
  readonly dy: number
}

/** Multiplications of a backward pass over B rows of n tokens, tensor by tensor from the output on. */
export const tensorCosts = (
  network: Network<any>,
  sites: readonly Site[],
  [B, n]: readonly [rows: number, tokens: number],
): TensorCost[] => {
  const tokens = B * n
  const costs: TensorCost[] = []
  let core = 0 // of attention, which what lies before it pays
  const tied = Boolean(network.config['tied']) && !network.weights['head']
  for (const site of [...sites].reverse()) {
    if (site.kind === 'core') core = 4 * B * n * n * site.in
    const matrix = network.weights[site.name]
    for (const name of tensorsOf(network, site).reverse()) {
      const size = matrix && name === site.name ? matrix.shape[0] * matrix.shape[1] : 0
      if (site.kind === 'embed') costs.push({ name, dw: tied ? tokens * size + size : size, dy: 0 })
      else if (size) {
        costs.push({ name, dw: tokens * size, dy: tokens * size + core })
        core = 0
      } else if (matrix) costs.push({ name, dw: tokens * matrix.shape[0], dy: 0 })
      else costs.push({ name, dw: tokens * site.out, dy: name === site.name ? tokens * site.out : 0 })
    }
  }
  // the logits of a tied head pass the error on, whatever trains
  const [first, ...rest] = costs
  const out = tied ? tokens * network.weights['embed']!.shape[0] * network.weights['embed']!.shape[1] : 0
  return first ? [{ ...first, dy: first.dy + out }, ...rest] : []
}

/**
 * The subset of the largest importance whose backward pass stays within `budget`, a share of the whole: exact, by dynamic
 * programming over costs rounded down to thousandths. Each tensor in it costs dw, and dy all up to the deepest.
 */
export const selectTensors = (
  costs: readonly TensorCost[],
  importance: readonly number[],
  budget: number,
  levels = 1000,
): boolean[] => {
  const N = costs.length
  if (importance.length !== N) throw new Error(`greenTrainer: ${importance.length} importances for ${N} tensors`)
  const scale = levels / costs.reduce((s, c) => s + c.dw + c.dy, 0)
  const [dw, dy] = [costs.map((c) => Math.floor(c.dw * scale)), costs.map((c) => Math.floor(c.dy * scale))]
  const room = Math.floor(budget * levels)
  // best[c] of the tensors so far, and whether each was taken for it
  let best = new Float64Array(room + 1)
  const taken: Uint8Array[] = []
  let [top, deepest, left, passed] = [0, -1, 0, 0]
  for (let k = 0; k < N; k++) {
    passed += dy[k]!
    const capacity = room - passed - dw[k]!
    if (capacity >= 0 && importance[k]! + best[capacity]! > top)
      [top, deepest, left] = [importance[k]! + best[capacity]!, k, capacity]
    const next = best.slice()
    const here = new Uint8Array(room + 1)
    for (let c = dw[k]!; c <= room; c++) {
      const value = best[c - dw[k]!]! + importance[k]!
      if (value > next[c]!) [next[c], here[c]] = [value, 1]
    }
    best = next
    taken.push(here)
  }
  const found = costs.map(() => false)
  if (deepest < 0) return found
  found[deepest] = true
  for (let k = deepest - 1, c = left; k >= 0; k--) {
    if (!taken[k]![c]) continue
    found[k] = true
    c -= dw[k]!
  }
  return found
}

/**
 * −Σ g₁ ⊙ Δw of each tensor, by the largest: how much of the loss the step of an optimizer takes away, by the gradient after
 * it. Nothing is changed.
 */
export const importanceOf = async (
  loss: Loss,
  params: Params,
  transform: Transform<any>,
  estimate: Estimator = backprop,
): Promise<Readonly<Record<string, number>>> => {
  const products = tidy(() => {
    // what the optimizer keeps is gone before the second pass: a large model has no room for both
    const updates = tidy(() => transform.update(estimate(loss, params).grads, transform.init(params), params)[0])
    const after = estimate(loss, applyUpdates(params, updates)).grads
    return mapParams(updates, (u, n) => mul(sum(mul(after[n]!, u)), -1))
  })
  const found: Record<string, number> = {}
  for (const [name, t] of Object.entries(products)) {
    found[name] = (await t.data())[0]!
    t.dispose()
  }
  const largest = Math.max(...Object.values(found).map(Math.abs)) || 1
  return Object.fromEntries(Object.entries(found).map(([n, v]) => [n, v / largest]))
}

export interface GreenTrainerOptions {
  /** what `importanceOf` found, when all tensors trained */
  readonly importance: Readonly<Record<string, number>>
  /** rows and tokens of a batch */
  readonly batch: readonly [rows: number, tokens: number]
  /** ρ, share of the cost of full tuning, forward pass included */
  readonly rho?: number
}

/** the share of the backward pass that ρ leaves, at least 0.05 */
export const backwardShare = (rho: number, costs: readonly TensorCost[]): number => {
  // a forward pass multiplies as often as the gradients of the weights do
  const forward = costs.reduce((s, c) => s + c.dw, 0)
  const backward = costs.reduce((s, c) => s + c.dw + c.dy, 0)
  return Math.max(0.05, rho * (1 + forward / backward) - forward / backward)
}

/**
 * max Σ m·I over tensors m with Σ_{k≤K} dy + Σ m·dw ≤ ρ', K the deepest of m  —  Huang et al., arXiv:2309.13192
 *
 * Choose anew every few epochs, after `importanceOf` with all tensors training.
 * @family lora
 */
export const greenTrainer =
  ({ importance, batch, rho = 0.5 }: GreenTrainerOptions): Choice =>
  (network, sites) => {
    if (!(rho > 0 && rho <= 1)) throw new Error(`greenTrainer: rho must be in (0, 1], found ${rho}`)
    const costs = tensorCosts(network, sites, batch)
    const missing = costs.find((c) => importance[c.name] === undefined)
    if (missing) throw new Error(`greenTrainer: ${missing.name} has no importance; find it with all tensors training`)
    const scores = costs.map((c) => importance[c.name]!)
    const chosen = selectTensors(costs, scores, backwardShare(rho, costs))
    const names = costs.filter((_, i) => chosen[i]).map((c) => c.name)
    if (names.length) return names
    throw new Error(`greenTrainer: no tensor fits in rho ${rho}, or none helps; raise it`)
  }
