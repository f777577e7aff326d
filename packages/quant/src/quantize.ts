import type { Codec, Network, Seen, Statistic, Tensor2D, Weight } from '@weftjs/spec'
import { matchNames, tensorsOf } from '@weftjs/weight'
import { firstNonFinite } from './kernels/absmax.ts'
import { packedAlone } from './kernels/packed-alone.ts'

/** Names of weights: a glob (`blocks.*.attn.{q,v}`; `*` stays within a dot, `**` crosses), several, or a predicate. */
export type Which = string | readonly string[] | ((name: string) => boolean)

/** One format for all, or one for each matrix: undefined leaves it as it is. */
export type CodecFor = Codec<any> | ((name: string, weight: Weight) => Codec<any> | undefined)
/**
 * Statistics of what matrices read, by their names, in a network that is packed up to there: those that the codecs of all
 * of them ask for; `codec` is the first's.
 */
export type See = (
  network: Network<any>,
  names: readonly string[],
  codec: Codec<any>,
  statistics: readonly Statistic[],
) => Promise<Readonly<Record<string, Seen>>>

export interface QuantizeOptions {
  /** default: every matrix of the blocks, so neither the embedding nor the head */
  readonly at?: Which
  /** of those, which stay as they are */
  readonly skip?: Which
  /** dispose each dense matrix once it is packed: the peak is the network plus one matrix */
  readonly consume?: boolean
  /**
   * For codecs that calibrate: called before the matrices of each stage are packed (those of a block that read one input,
   * in the order that the network runs them), with the network as it is by then. `seeing(batches)` of @weftjs/model does it.
   */
  readonly see?: See
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
  codec: CodecFor,
  { at = 'blocks.**', skip = [], consume = false, see, onProgress }: QuantizeOptions = {},
): Promise<N> => {
  const [wanted, unwanted] = [test(at), test(skip)]
  const found = Object.keys(network.weights).filter((n) => wanted(n) && !unwanted(n))
  if (!found.length)
    throw new Error(
      `quantize: no weight matches ${typeof at === 'function' ? 'the predicate' : JSON.stringify(at)}; the network has ${Object.keys(network.weights).slice(0, 8).join(', ')}`,
    )
  const codecs = new Map<string, Codec<any>>()
  for (const name of found) {
    const chosen = typeof codec === 'function' ? codec(name, network.weights[name]!) : codec
    if (chosen) codecs.set(name, chosen)
  }
  const names = [...codecs.keys()]
  if (!names.length) throw new Error(`quantize: a codec was chosen for none of ${found.length} weights that match`)
  for (const name of names) {
    const { format = 'dense' } = network.weights[name]!
    if (format !== 'dense')
      throw new Error(
        `${name}: is in format '${format}' already; quantize the dense network, or leave it out by "skip"`,
      )
    const { name: of, calibrates } = codecs.get(name)!
    if (calibrates && !see)
      throw new Error(
        `${name}: ${of} looks at what the layer reads (${calibrates.join(', ')}); give "see", a calibration pass`,
      )
  }
  // nothing is disposed before all is known to be finite
  for (const name of names) await refuseNonFinite(name, network.weights[name]!)
  const weights: Record<string, Weight> = { ...network.weights }
  const made: Weight[] = []
  try {
    let done = 0
    for (const stage of stagesOf(names)) {
      const looking = stage.filter((n) => codecs.get(n)!.calibrates)
      const statistics = [...new Set(looking.flatMap((n) => codecs.get(n)!.calibrates!))]
      const first = codecs.get(looking[0]!)!
      const seen = looking.length ? await see!({ ...network, weights }, looking, first, statistics) : {}
      const unseen = looking.find((n) => !seen[n])
      if (unseen !== undefined)
        throw new Error(`${unseen}: the calibration pass did not reach it; give it texts that do, or "skip" it`)
      for (const name of stage) {
        const weight = weights[name]!
        const found = await packedAlone(codecs.get(name)!, weight, seen[name]).catch((error) => {
          // a codec does not know whose matrix it is
          throw new Error(`${name}: ${(error as Error).message}`, { cause: error })
        })
        weights[name] = found
        made.push(found)
        if (consume) disposeUnshared(weight, { ...network, weights })
        onProgress?.({ name, weights: ++done, of: names.length })
        await new Promise((resolve) => setTimeout(resolve))
      }
    }
  } catch (error) {
    for (const { parts } of made) for (const t of Object.values(parts)) t.dispose()
    throw error
  }
  return { ...network, weights }
}

/** q, k, v; o; gate, up; down: what runs before has to be packed when what comes after is looked at */
const STAGES: readonly RegExp[] = [/\.attn\.(q|k|v|qkv)$/, /\.attn\./, /\.(router|gate|up)$/]

/** names by block, and in it by stage, as the network runs them: what comes before the blocks, these, what comes after */
export const stagesOf = (names: readonly string[]): (readonly string[])[] => {
  const stages = new Map<string, { block: number; stage: number; names: string[] }>()
  for (const name of names) {
    const number = /^blocks\.(\d+)/.exec(name)?.[1]
    const found = STAGES.findIndex((s) => s.test(name))
    const stage = found < 0 ? STAGES.length : found
    const block = number !== undefined ? Number(number) : name === 'embed' ? -1 : Number.MAX_SAFE_INTEGER
    const key = number !== undefined ? `${block} ${stage}` : name
    if (stages.has(key)) stages.get(key)!.names.push(name)
    else stages.set(key, { block, stage, names: [name] })
  }
  return [...stages.values()].sort((a, b) => a.block - b.block || a.stage - b.stage).map((s) => s.names)
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

const disposeUnshared = ({ parts }: Weight, network: Network<object>): void => {
  const used = new Set(tensorsOf(network))
  for (const t of Object.values(parts)) if (!used.has(t)) t.dispose()
}
