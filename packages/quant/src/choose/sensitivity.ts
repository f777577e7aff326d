import type { Codec, Network, Seen, Weight } from '@weftjs/spec'
import { matchNames } from '@weftjs/weight'
import { bitsPerWeight } from '../kernels/layout.ts'
import { packedAlone } from '../kernels/packed-alone.ts'
import { type See, stagesOf, type Which } from '../quantize.ts'
import { errorOf } from './error.ts'
import { seenIn } from './sight.ts'

/** What a matrix loses in a format. */
export interface Sensitivity {
  readonly name: string
  readonly codec: Codec<any>
  /** by how much the measure rises, or the error */
  readonly loss: number
  /** a weight, scales included */
  readonly bits: number
  /** numbers of the matrix */
  readonly weights: number
}
export interface SensitivityOptions<N> {
  /** default: every matrix of the blocks */
  readonly at?: Which
  readonly skip?: Which
  /**
   * Any measure of a network in which one matrix is packed: KL to the whole one, a loss. What it says of the whole network is
   * subtracted. Without it the error is measured where it arises, in the outputs of the matrix, or in the matrix itself.
   */
  readonly measure?: (network: N, name: string | undefined) => number | Promise<number>
  /** what a calibration pass saw: for codecs that calibrate, and what weighs errors */
  readonly seen?: Readonly<Record<string, Seen>>
  /**
   * What codecs that calibrate look at, and what weighs errors: asked before each stage of a block is measured, with the
   * network as it is given, so that the statistics of one stage are held at a time. `seeing(batches)` of @weftjs/model does it.
   */
  readonly see?: See
  /**
   * What weighs an error: `moment` (where `seen` holds a matrix) makes it one of the outputs, which counts every output
   * alike; `fisher` makes it ½ Σ F ⊙ (Q − W)², in proportion to which the loss rises to second order: one backward pass says
   * almost what `measure` does. With `see` it knows from E[x·xᵀ] as well which inputs go together: GPTQ lets errors grow
   * that make each other good.
   */
  readonly by?: 'moment' | 'fisher'
  /** errors as a share of what the matrix gives, or would lose if it were gone; times `weights`, shares add up over matrices */
  readonly relative?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (done: { readonly name: string; readonly pairs: number; readonly of: number }) => void
}

const test = (which: Which): ((name: string) => boolean) => (typeof which === 'function' ? which : matchNames(which))

/** why the format does not take a matrix of this shape; nothing where it does */
const refusal = (codec: Codec<any>, shape: readonly [number, number]): string | undefined => {
  try {
    codec.layout?.(shape)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/**
 * Each matrix alone in each of the formats, and what the network loses by it: where bits matter, and what is worth tuning.
 * One matrix is packed at a time, and gone before the next. Formats that cannot take a matrix are left out for it.
 * @throws Error where none can, where nothing matches, and for a measure that is not a number
 */
export const sensitivity = async <N extends Network<object>>(
  network: N,
  candidates: Codec<any> | readonly Codec<any>[],
  options: SensitivityOptions<N> = {},
): Promise<readonly Sensitivity[]> => {
  const { at = 'blocks.**', skip = [], measure, seen = {}, see, by, relative = false, signal, onProgress } = options
  const codecs: readonly Codec<any>[] = 'encode' in candidates ? [candidates] : candidates
  const [wanted, unwanted] = [test(at), test(skip)]
  const names = Object.keys(network.weights).filter((n) => wanted(n) && !unwanted(n))
  if (!names.length || !codecs.length)
    throw new Error(
      `sensitivity: ${names.length} weights match and ${codecs.length} codecs are given; both must be some`,
    )
  const unseen = by === 'fisher' && !measure && !see ? names.find((n) => !seen[n]) : undefined
  if (unseen !== undefined)
    throw new Error(`${unseen}: no gradient was seen there; gather 'fisher' from data that reach it, or "skip" it`)
  const asked = async (net: N, name?: string): Promise<number> => {
    const found = await measure!(net, name)
    if (Number.isFinite(found)) return found
    throw new Error(`${name ?? 'the whole network'}: the measure is ${found}; give one that is a finite number`)
  }
  const before = measure ? await asked(network) : 0
  const found: Sensitivity[] = []
  let done = 0
  const ableOf = (name: string): readonly Codec<any>[] => {
    const { shape } = network.weights[name]!
    const able = codecs.filter((c) => refusal(c, shape) === undefined)
    if (able.length) return able
    throw new Error(
      `${name}: none of ${[...new Set(codecs.map((c) => c.name))].join(', ')} takes [${shape}] (${refusal(codecs[0]!, shape)}); add one that does, or leave it out by "at" or "skip"`,
    )
  }
  for (const stage of stagesOf(names)) {
    signal?.throwIfAborted()
    const pairs = stage.map((name) => [name, ableOf(name)] as const)
    const sight = await seenIn(network, pairs, { seen, see, by: measure ? undefined : by })
    for (const [name, able] of pairs) {
      const weight = network.weights[name]!
      const { known, weighed } = sight(name)
      for (const codec of able) {
        signal?.throwIfAborted()
        const trial = await packedAlone(codec, weight, known)
        try {
          const bits = bitsPerWeight(codec, weight.shape) ?? countOf(trial)
          const loss = measure
            ? (await asked({ ...network, weights: { ...network.weights, [name]: trial } }, name)) - before
            : await errorOf(weight, trial, weighed, relative)
          found.push({ name, codec, loss, bits, weights: weight.shape[0] * weight.shape[1] })
        } finally {
          for (const t of Object.values(trial.parts)) t.dispose()
        }
        onProgress?.({ name, pairs: ++done, of: names.length * codecs.length })
        await new Promise((resolve) => setTimeout(resolve))
      }
    }
  }
  return found
}

const countOf = ({ parts, shape }: Weight): number =>
  (32 * Object.values(parts).reduce((n, t) => n + t.size, 0)) / (shape[0] * shape[1])

/**
 * The share of matrices that lose the most, at the least one: what is worth tuning when the rest stays as it is, as
 * `at` of an adapter or `train` of dense ones. Each counts by the format in which it loses the most.
 *
 * This is the choice of QuEST (Wang et al., arXiv:2402.03666) for any network. Its layers of time embedding and its scales of
 * activations for each timestep belong to diffusion, of which there is no model here, and activations are not rounded.
 * Whether tuning these alone wins back more than tuning as many others, as QuEST says of diffusion, has not been measured here.
 */
export const mostSensitive = (measured: readonly Sensitivity[], share: number): readonly string[] => {
  if (!(share > 0 && share <= 1)) throw new Error(`mostSensitive: share must be in (0, 1], found ${share}`)
  const worst = new Map<string, number>()
  for (const { name, loss } of measured) worst.set(name, Math.max(loss, worst.get(name) ?? Number.NEGATIVE_INFINITY))
  const order = [...worst].sort(([, a], [, b]) => b - a)
  return order.slice(0, Math.ceil(share * order.length)).map(([name]) => name)
}
