import type { Adapter, Rng, Site } from '@weftjs/spec'
import { fromMatrix, type Matrix, matrix, toMatrix, transpose } from '@weftjs/tensor/linalg'
import { type LoraOptions, type LoraState, lora, loraScale } from './lora.ts'
import { residual, topTriples } from './shared/residual.ts'
import { mustBeNumber, mustFit } from './shared/start.ts'

export interface LoraGaOptions extends Omit<LoraOptions, 'init' | 'loraBias'> {
  /** which of the top 2r directions of the gradient go to A and to B: the first r and the next, the reverse, in turn, or drawn */
  readonly direction?: 'ArB2r' | 'A2rBr' | 'ArBr' | 'random'
  /**
   * Size of the start. PEFT's, with B as long as the gradient's singular values: `stable`, B times out^¼/√γ; `weight-svd`, B as
   * long as W; `gd`, both over α/r; `unit`, as they are. `authors`: unit directions, both times out^¼/√γ, as in the paper's code.
   */
  readonly scale?: 'stable' | 'weight-svd' | 'gd' | 'unit' | 'authors'
  /** γ */
  readonly gamma?: number
}
export type LoraGaState = LoraState

/** numbers that train at a site: r·(in + out) */
export const trainable = ({ in: n, out }: Site, { rank = 8 }: LoraGaOptions = {}): number => rank * (n + out)

/** places among the top 2r: [of A, of B]; PEFT draws the same for both */
const places = (direction: LoraGaOptions['direction'], r: number, rng: Rng): readonly [number[], number[]] => {
  const up = Array.from({ length: r }, (_, i) => i)
  const [first, second] = [up, up.map((i) => r + i)]
  if (direction === 'A2rBr') return [second, first]
  if (direction === 'ArBr') return [up.map((i) => 2 * i + 1), up.map((i) => 2 * i)]
  if (direction !== 'random') return [first, second]
  const chance = rng.numbers(2 * r)
  const drawn = [...first, ...second].sort((i, j) => chance[i]! - chance[j]!).slice(0, r)
  return [drawn, drawn]
}

/** the columns of m that are named, each times a factor */
const picked = (m: Matrix, at: readonly number[], by: (i: number) => number): Matrix => {
  const out = matrix(m.rows, at.length)
  for (let i = 0; i < m.rows; i++)
    for (const [k, j] of at.entries()) out.data[i * at.length + k] = m.data[i * m.cols + j]! * by(j)
  return out
}

/** W = W_res + (α/r)·B·A, A and B directions of the loss's gradient G = U·S·Vᵀ  —  Wang et al., arXiv:2407.05000 */
export const loraGa = (options: LoraGaOptions = {}): Adapter<LoraGaState> => {
  const { direction = 'ArB2r', scale = 'stable', gamma = 16, ...rest } = options
  mustBeNumber('lora-ga: gamma', gamma)
  if (!(gamma > 0)) throw new Error(`lora-ga: gamma must be above 0, found ${gamma}`)
  const at = loraScale(rest)
  return {
    ...lora(rest),
    name: 'lora-ga',
    options: { ...options },
    calibrates: ['gradient'],
    init: (site, { rng, seen }) => {
      const { rank: r, factor } = at(site)
      mustFit(site, r)
      const [out, input] = site.weight!.shape
      if (2 * r > Math.min(out, input))
        throw new Error(
          `${site.name}: LoRA-GA takes 2·rank = ${2 * r} directions, above min(${out}, ${input}); lower rank or narrow "at"`,
        )
      const { u, s, v } = topTriples(toMatrix(seen().get('gradient') as never), 2 * r, rng)
      if (!(s[0]! > 0)) throw new Error(`${site.name}: the gradient is zero; calibrate on data with targets`)
      const [ofA, ofB] = places(direction, r, rng)
      const stable = out ** 0.25 / Math.sqrt(gamma)
      const sizes: Readonly<Record<string, () => readonly [a: number, b: number]>> = {
        stable: () => [1, stable],
        authors: () => [stable, stable],
        gd: () => [1 / factor, 1 / factor],
        unit: () => [1, 1],
        'weight-svd': () => [1, topTriples(toMatrix(site.weight!.dense()), r, rng).s[0]! / s[ofB[0]!]!],
      }
      const size = sizes[scale]
      if (!size) throw new Error(`lora-ga: scale must be one of ${Object.keys(sizes).join(', ')}, found '${scale}'`)
      const [forA, forB] = size()
      const state = {
        a: fromMatrix(transpose(picked(v, ofA, () => forA))), // [r, in]
        b: fromMatrix(picked(u, ofB, (j) => forB * (scale === 'authors' ? 1 : s[j]!))), // [out, r]
      }
      return { state, base: residual(site.weight!, state, factor) }
    },
  }
}
