import type { Codec, Tensor2D, Weight } from '@weftjs/spec'
import { CheckpointError } from '@weftjs/tensor/checkpoint'
import { dense } from '@weftjs/weight'
import { firstNonFinite } from '../kernels/absmax.ts'
import { packedAlone } from '../kernels/packed-alone.ts'

/**
 * A matrix that was read from a file in the format, its parts kept; `w` stays.
 * @throws CheckpointError for a NaN or an infinity, with its place, and for what the codec refuses
 */
export const packMatrix = async (
  codec: Codec<any>,
  w: Tensor2D,
  at: { readonly file: string; readonly tensor: string },
): Promise<Weight> => {
  const odd = await firstNonFinite(w)
  if (odd !== undefined) {
    const width = w.shape[1]
    throw new CheckpointError(
      `element [${Math.floor(odd / width)}, ${odd % width}] is ${(await w.data())[odd]}, which no format of few bits can hold; check the checkpoint, or leave this weight out by "at"`,
      at,
    )
  }
  return packedAlone(codec, dense(w)).catch((error: Error) => {
    throw new CheckpointError(error.message, at, { cause: error })
  })
}
