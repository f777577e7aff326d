import type { Choice, Tensor } from '@weftjs/spec'
import { div, expandDims, matMul, mul, sqrt, square, sum, tidy } from '@weftjs/tensor'
import { layersOf, tensorNames } from './names.ts'

export interface TellyOptions {
  /** blocks that are frozen, from the first; 0 freezes the embeddings alone */
  readonly k: number
}

/**
 * Blocks K to L − 1 and the head train, and the backward pass ends there  —  Shi et al., arXiv:2304.05216
 *
 * A head that is tied to the embedding is frozen with it.
 * @family lora
 */
export const telly =
  ({ k }: TellyOptions): Choice =>
  (network, sites) => {
    const layers = layersOf(sites)
    if (!Number.isInteger(k) || k < 0 || k > layers)
      throw new Error(`telly: k must be a whole number from 0 to ${layers}, the number of blocks, found ${k}`)
    const frozen = (name: string): boolean => {
      const [, layer] = /^blocks\.(\d+)\./.exec(name) ?? []
      return layer !== undefined ? Number(layer) < k : /^(embed|positions|types|cls)(\.|$)/.test(name)
    }
    const found = tensorNames(network).filter((n) => !frozen(n))
    if (found.length) return found
    throw new Error(`telly: with k = ${k} nothing is left to train, for the head is the embedding's; lower k`)
  }

/** the mean of the tokens that the mask shows: h [N, T, D], mask [N, T] → [N, D] */
export const tokenMean = (h: Tensor, mask: Tensor): Tensor =>
  tidy(() => div(sum(mul(h, expandDims(mask, 2)), 1), sum(mask, 1, true)))

/**
 * Representational similarity: Pearson's correlation between the cosine similarities of N inputs in one layer of two models,
 * a and b [N, D], over all pairs and each with itself.
 */
export const similarityOf = async (a: Tensor, b: Tensor): Promise<number> => {
  const pairs = tidy(() => {
    const cosines = (h: Tensor): Tensor => {
      const unit = div(h, sqrt(sum(square(h), 1, true)))
      return matMul(unit, unit, false, true) // [N, N]
    }
    return [cosines(a), cosines(b)]
  })
  const [x, y] = (await Promise.all(pairs.map((p) => p.data()))) as unknown as [Float32Array, Float32Array]
  for (const p of pairs) p.dispose()
  const n = a.shape[0]!
  const upper: number[] = []
  for (let i = 0; i < n; i++) for (let j = i; j < n; j++) upper.push(i * n + j)
  const mean = (v: ArrayLike<number>): number => upper.reduce((s, i) => s + v[i]!, 0) / upper.length
  const [mx, my] = [mean(x), mean(y)]
  const sums = (f: (i: number) => number): number => upper.reduce((s, i) => s + f(i), 0)
  const both = sums((i) => (x[i]! - mx) * (y[i]! - my))
  return both / Math.sqrt(sums((i) => (x[i]! - mx) ** 2) * sums((i) => (y[i]! - my) ** 2))
}

/** K: how many of the first blocks stay similar under tuning. The paper reads it off a plot; 0.9 is ours. */
export const tellyK = (similarities: readonly number[], threshold = 0.9): number => {
  const first = similarities.findIndex((s) => s < threshold)
  return first < 0 ? similarities.length : first
}
