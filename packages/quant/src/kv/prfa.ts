import type { Adapter, Rng, Tensor } from '@weftjs/spec'
import { add, rng as newRng, tensor } from '@weftjs/tensor'

export interface PrfaOptions {
  /** tokens of a block */
  readonly block?: number
  /** P(d) = max(floor, 2^(−d/half)) for a block of keys that is d blocks back */
  readonly half?: number
  readonly floor?: number
  /** −ln P is added to the scores that are kept, so that numerator and denominator of softmax are right on average */
  readonly unbiased?: boolean
  /** drops blocks outside of training, too, by noise of this seed */
  readonly always?: number
}

/** P by distance in blocks */
export const blockChance = (d: number, { half = 8, floor = 0.1 }: Pick<PrfaOptions, 'half' | 'floor'> = {}): number =>
  d <= 0 ? 1 : Math.max(floor, 2 ** (-d / half))

/**
 * Attention over a random choice of blocks of keys, the near ones likelier than the far: block d back takes part with chance
 * P(d) = max(floor, 2^(−d/half)), P(0) = 1  —  PrFlashAttention, after its abstract, there being no code
 *
 * An adapter without a state, for sites `blocks.*.attn.core`: `{ adapter: prfa(), at: '**.core' }`. Each head of each pass
 * draws its own blocks. It adds to the bias; that a kernel skips the blocks is what the paper gains its time by, and not here.
 */
export const prfa = (options: PrfaOptions = {}): Adapter<Record<never, Tensor>> => {
  const { block = 64, half = 8, floor = 0.1, unbiased = false, always } = options
  if (!Number.isInteger(block) || block < 1)
    throw new Error(`prfa: block must be a whole number of at least 1, found ${block}`)
  if (!(half > 0)) throw new Error(`prfa: half must be above 0, found ${half}`)
  if (!(floor >= 0 && floor <= 1)) throw new Error(`prfa: floor must be a chance, found ${floor}`)
  /** [1, H, T, K] */
  const maskOf = (rng: Rng, heads: number, queries: number, keys: number): Tensor => {
    const past = keys - queries
    const [from, rows, columns] = [Math.floor(past / block), Math.ceil(keys / block), Math.ceil(keys / block)]
    const noise = rng.numbers(heads * (rows - from) * columns)
    const values = new Float32Array(heads * queries * keys)
    for (let h = 0; h < heads; h++)
      for (let t = 0; t < queries; t++) {
        const row = Math.floor((past + t) / block)
        for (let k = 0; k < keys; k++) {
          const column = Math.floor(k / block)
          const chance = blockChance(row - column, { half, floor })
          const drawn = noise[(h * (rows - from) + row - from) * columns + column]!
          values[(h * queries + t) * keys + k] = drawn >= chance ? -1e9 : unbiased ? -Math.log(chance) : 0
        }
      }
    return tensor(values, [1, heads, queries, keys])
  }
  return {
    name: 'prfa',
    options: { block, half, floor, unbiased, ...(always !== undefined && { always }) },
    init: () => ({ state: {} }),
    attend: (next, x, _, { training, rng, site, past = 0 }) => {
      const noise =
        always === undefined ? (training ? rng : undefined) : (rng ?? newRng(always).fork(`${site.name}.${past}`))
      if (!noise) return next(x)
      if (!x.causal && !x.bias)
        throw new Error(`${site.name}: prfa counts blocks back from each query; it needs causal attention`)
      const [, heads, queries] = x.q.shape as [number, number, number, number]
      const mask = maskOf(noise, heads, queries, x.k.shape[2]!) // [1, H, T, K]
      return next({ ...x, bias: x.bias ? add(x.bias, mask) : mask })
    },
  }
}
