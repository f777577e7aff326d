import type { Codec, Network, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { keep, tidy } from '@weftjs/tensor'
import { matchNames, packed } from '@weftjs/weight'
import { firstNonFinite } from './kernels/absmax.ts'

/** Names of weights: a glob (`blocks.*.attn.{q,v}`; `*` stays within a dot, `**` crosses), several, or a predicate. */
export type Which = string | readonly string[] | ((name: string) => boolean)

export interface QuantizeOptions {
  /** default: every matrix of the blocks, so neither the embedding nor the head */
  readonly at?: Which
  /** of those, which stay as they are */
  readonly skip?: Which
  /** dispose each dense matrix once it is packed: the peak is the network plus one matrix */
  readonly consume?: boolean
  readonly onProgress?: (done: { readonly name: string; readonly weights: number; readonly of: number }) => void
}

const test = (which: Which): ((name: string) => boolean) => (typeof which === 'function' ? which : matchNames(which))

/**
 * The network with its matrices in `codec`'s format; all else is shared with the original, which stays usable unless
 * `consume`. Waits between matrices, so that a page can draw.
 * @throws Error for a NaN or an infinity, with the tensor's name and its place, and when nothing matches
 */
export const quantize = async <N extends Network<object>>(
  network: N,
  codec: Codec,
  { at = 'blocks.**', skip = [], consume = false, onProgress }: QuantizeOptions = {},
): Promise<N> => {
  const [wanted, unwanted] = [test(at), test(skip)]
  const names = Object.keys(network.weights).filter((n) => wanted(n) && !unwanted(n))
  if (!names.length)
    throw new Error(
      `quantize: no weight matches ${typeof at === 'function' ? 'the predicate' : JSON.stringify(at)}; the network has ${Object.keys(network.weights).slice(0, 8).join(', ')}`,
    )
  for (const name of names) {
    const { format = 'dense' } = network.weights[name]!
    if (format !== 'dense')
      throw new Error(
        `${name}: is in format '${format}' already; quantize the dense network, or leave it out by "skip"`,
      )
  }
  // nothing is disposed before all is known to be finite
  for (const name of names) await refuseNonFinite(name, network.weights[name]!)
  const weights: Record<string, Weight> = { ...network.weights }
  const made: Weight[] = []
  try {
    for (const [i, name] of names.entries()) {
      const weight = weights[name]!
      const packedWeight = tidy(() => {
        const found = packed(codec, weight.dense())
        for (const t of Object.values(found.parts)) keep(t)
        return found as never
      }) as unknown as Weight
      weights[name] = packedWeight
      made.push(packedWeight)
      if (consume) disposeUnshared(weight, { ...network, weights })
      onProgress?.({ name, weights: i + 1, of: names.length })
      await new Promise((resolve) => setTimeout(resolve))
    }
  } catch (error) {
    for (const { parts } of made) for (const t of Object.values(parts)) t.dispose()
    throw error
  }
  return { ...network, weights }
}

const refuseNonFinite = async (name: string, weight: Weight): Promise<void> => {
  const w = weight.dense() as Tensor2D
  const at = await firstNonFinite(w)
  if (at !== undefined) {
    const [row, column] = [Math.floor(at / w.shape[1]), at % w.shape[1]]
    const value = (await w.data())[at]
    throw new Error(
      `${name}: element [${row}, ${column}] is ${value}, which no format of few bits can hold; check the checkpoint, or leave this weight out by "skip"`,
    )
  }
}

const disposeUnshared = ({ parts }: Weight, { weights, vectors }: Network<object>): void => {
  const used = new Set<Tensor>([
    ...Object.values(weights).flatMap((w) => Object.values(w.parts)),
    ...Object.values(vectors),
  ])
  for (const t of Object.values(parts)) if (!used.has(t)) t.dispose()
}
