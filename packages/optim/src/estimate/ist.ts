import type { Estimator, Loss, Params, Rng } from '@weftjs/spec'
import { mul, selectParams, tidy } from '@weftjs/tensor'

export interface IstOptions {
  readonly rng: Rng
  /** share of the layers that train in a step; and that are suppressed to score them */
  readonly update?: number
  readonly suppress?: number
  /** β, what is left of a suppressed adapter's output */
  readonly beta?: number
  /** T, steps from one scoring to the next; K, subsets that are tried then */
  readonly every?: number
  readonly draws?: number
  /** μ, rate of the scores; 0 draws uniformly (the paper's RST) */
  readonly mu?: number
  /** to which layer a tensor belongs */
  readonly layerOf?: (name: string) => number | undefined
  /** of the tensors of an adapter the one in which its output is linear: LoRA's B, a bottleneck's `up` */
  readonly scales?: (name: string) => boolean
  /** to go on from */
  readonly state?: IstState
}
export interface IstState {
  readonly step: number
  /** I by layer, of which the important ones are low */
  readonly scores: readonly number[]
}
export type Ist = Estimator & {
  /** steps done and scores, to save with a run */
  readonly state: IstState
  /** −I by layer */
  readonly importance: readonly number[]
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
/** n different layers, the next one always by the weights of those that are left */
const draw = (weights: readonly number[], n: number, rng: Rng): number[] => {
  const left = weights.map((_, i) => i)
  return Array.from(rng.numbers(n), (u) => {
    let at = u * left.reduce((s, i) => s + weights[i]!, 0)
    const j = left.findIndex((i) => {
      at -= weights[i]!
      return at < 0
    })
    return left.splice(j < 0 ? left.length - 1 : j, 1)[0]!
  }).sort((a, b) => a - b)
}
const choose = (n: number, k: number): number => (k === 0 ? 1 : (n / k) * choose(n - 1, k - 1))

/**
 * Gradients of layers drawn by σ(−I); I grows where suppressing does no harm  —  Yao et al., arXiv:2410.11772
 *
 * Every T steps K losses more are computed, without gradients: with T = 2 and K = 3 a step takes twice LoRA's. Take it with `apart(adamw(...))`, so that the moments of the
 * others wait, and without accumulation, since each call draws anew. The scores are read from the device at once.
 * @family lora
 */
export const ist =
  (options: IstOptions) =>
  (inner: Estimator): Ist => {
    const { rng, update = 0.25, suppress = 0.5, beta = 0.25, every = 10, draws = 3, mu = 10, state } = options
    const layerOf = options.layerOf ?? ((name) => Number(/^blocks\.(\d+)\./.exec(name)?.[1] ?? Number.NaN))
    const scales = options.scales ?? ((name) => /\.(b|up)$/.test(name))
    let step = state?.step ?? 0
    let scores = [...(state?.scores ?? [])]

    const score = (loss: Loss, params: Params, layers: readonly (number | undefined)[], n: number): void => {
      const names = Object.keys(params)
      const subsets = new Map<string, number[]>()
      const p = scores.map(sigmoid)
      for (let i = 0; subsets.size < draws; i++) {
        const subset = draw(p, n, rng.fork(`score.${step}.${i}`))
        subsets.set(subset.join(), subset)
      }
      const rewards = [...subsets.values()].map((subset) => {
        const low = (name: string, i: number): boolean => scales(name) && subset.includes(layers[i]!)
        const [value] = tidy(() =>
          loss(
            Object.fromEntries(names.map((name, i) => [name, low(name, i) ? mul(params[name]!, beta) : params[name]!])),
          ),
        ).dataSync()
        return Math.exp(-value!)
      })
      const mean = rewards.reduce((a, b) => a + b, 0) / rewards.length
      for (const [k, subset] of [...subsets.values()].entries())
        for (const i of subset) scores[i]! += mu * (rewards[k]! - mean) * p[i]! * (1 - p[i]!)
    }

    const estimate: Estimator = (loss, params) => {
      const names = Object.keys(params)
      const layers = names.map(layerOf)
      const outside = names.find((_, i) => !Number.isInteger(layers[i]))
      if (outside !== undefined) throw new Error(`ist: ${outside} belongs to no layer; say where with "layerOf"`)
      const L = 1 + Math.max(...(layers as number[]))
      if (!scores.length) scores = Array<number>(L).fill(0)
      const [n, suppressed] = [Math.round(update * L), Math.round(suppress * L)]
      if (n < 1 || n > L || suppressed < 1 || suppressed > L)
        throw new Error(`ist: ${n} of ${L} layers would train and ${suppressed} be suppressed; change the shares`)
      if (mu) {
        if (choose(L, suppressed) < draws)
          throw new Error(`ist: there are no ${draws} different sets of ${suppressed} of ${L} layers; lower "draws"`)
        const bare = Array.from({ length: L }, (_, i) => i).find(
          (layer) => layers.includes(layer) && !names.some((name, i) => layers[i] === layer && scales(name)),
        )
        if (bare !== undefined)
          throw new Error(`ist: layer ${bare} has no tensor that scales its adapter's output; name it with "scales"`)
        if (step && step % every === 0) score(loss, params, layers, suppressed)
      }
      const drawn = new Set(
        draw(
          scores.map((s) => sigmoid(-s)),
          n,
          rng.fork(`update.${step}`),
        ),
      )
      step++
      const part = new Set(names.filter((_, i) => drawn.has(layers[i]!)))
      return inner(
        (some) => loss({ ...params, ...some }),
        selectParams(params, (name) => part.has(name)),
      )
    }
    return Object.defineProperties(estimate, {
      state: { get: () => ({ step, scores: [...scores] }) },
      importance: { get: () => scores.map((s) => -s) },
    }) as Ist
  }
