import type { Codec, Config, Tensor2D, Weight } from '@weftjs/spec'
import { type Checkpoint, isFloating } from '@weftjs/tensor/checkpoint'
import { readTensor } from '@weftjs/tensor/read-tensor'
import { matchNames } from '@weftjs/weight'
import type { Which } from '../quantize.ts'
import { fromPacked } from './all.ts'
import { packMatrix } from './pack-matrix.ts'

export interface PackingOptions {
  /** default: every matrix of the blocks */
  readonly at?: Which
  readonly onProgress?: (done: { readonly name: string; readonly weights: number }) => void
}

/**
 * Packs matrices as they are read: the `packed` of `loadNetwork` with which a model is never whole in memory as float32.
 * For codecs that look at no data; what lies transposed in the file (GPT-2's) stays dense, for `quantize`. From file to
 * file, without a network in memory at all, goes `streaming`.
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
  mustNotLook(codec, 'packing')
  const wanted = typeof at === 'function' ? at : matchNames(at)
  let weights = 0
  return async (checkpoint, hf, shape, config, { name, layout }) => {
    const there = await fromPacked(checkpoint, hf, shape, config)
    if (there || !wanted(name) || layout || !checkpoint.has(hf)) return there
    const { dtype, shape: found } = checkpoint.entry(hf)
    if (found.join() !== shape.join() || !isFloating(dtype)) return undefined // whoever loads says what is wrong
    const w = (await readTensor(checkpoint, hf, shape)) as Tensor2D
    try {
      const weight = await packMatrix(codec, w, { file: checkpoint.name, tensor: hf })
      onProgress?.({ name, weights: ++weights })
      return weight
    } finally {
      w.dispose()
    }
  }
}

/** @throws Error for a codec that calibrates */
export const mustNotLook = (codec: Codec<any>, who: string): void => {
  if (codec.calibrates?.length)
    throw new Error(`${who}: ${codec.name} looks at what the layer reads; load the network, and quantize it`)
}
