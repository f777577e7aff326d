import type { Codec, Config, Weight } from '@weftjs/spec'
import { tensor2d } from '@weftjs/tensor'
import { type Checkpoint, CheckpointError } from '@weftjs/tensor/checkpoint'
import { dense, matchNames } from '@weftjs/weight'
import { firstNonFinite } from '../kernels/absmax.ts'
import { packedAlone } from '../kernels/packed-alone.ts'
import type { Which } from '../quantize.ts'
import { fromPacked } from './all.ts'

export interface PackingOptions {
  /** default: every matrix of the blocks */
  readonly at?: Which
  readonly onProgress?: (done: { readonly name: string; readonly weights: number }) => void
}

/**
 * Packs matrices as they are read: the `packed` of `loadNetwork` with which a model is never whole in memory as float32.
 * For codecs that look at no data; what lies transposed in the file (GPT-2's) stays dense, for `quantize`.
 * @throws CheckpointError for a NaN or an infinity, with its place
 */
export const packing = (
  codec: Codec<any>,
  { at = 'blocks.**', onProgress }: PackingOptions = {},
): ((
  checkpoint: Checkpoint,
  hf: string,
  shape: readonly [number, number],
  config: Config,
  at: { readonly name: string; readonly layout?: string },
) => Promise<Weight | undefined>) => {
  if (codec.calibrates?.length)
    throw new Error(`packing: ${codec.name} looks at what the layer reads; load the network, and quantize it`)
  const wanted = typeof at === 'function' ? at : matchNames(at)
  let weights = 0
  return async (checkpoint, hf, shape, config, { name, layout }) => {
    const there = await fromPacked(checkpoint, hf, shape, config)
    if (there || !wanted(name) || layout || !checkpoint.has(hf)) return there
    if (checkpoint.entry(hf).shape.join() !== shape.join()) return undefined // whoever loads says what is wrong
    const w = tensor2d(await checkpoint.floats(hf), [shape[0], shape[1]])
    try {
      const odd = await firstNonFinite(w)
      if (odd !== undefined)
        throw new CheckpointError(
          `element [${Math.floor(odd / shape[1])}, ${odd % shape[1]}] is ${(await w.data())[odd]}, which no format of few bits can hold; check the checkpoint, or leave this weight out by "at"`,
          { file: checkpoint.name, tensor: hf },
        )
      const weight = await packedAlone(codec, dense(w)).catch((error: Error) => {
        throw new CheckpointError(error.message, { file: checkpoint.name, tensor: hf }, { cause: error })
      })
      onProgress?.({ name, weights: ++weights })
      return weight
    } finally {
      w.dispose()
    }
  }
}
