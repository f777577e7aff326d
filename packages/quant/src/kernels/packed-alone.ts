import type { Codec, Seen, Tensor2D, Weight } from '@weftjs/spec'
import { keep, orAtOnce, tidy } from '@weftjs/tensor'
import { packed } from '@weftjs/weight'

/**
 * The matrix of `weight` in the format, its parts kept and all else gone. A codec that reads numbers at once is waited for
 * where a GPU cannot be read so, and computes in plain JavaScript there.
 */
export const packedAlone = (codec: Codec<any>, weight: Weight, seen?: Seen): Promise<Weight> =>
  orAtOnce(
    () => [...Object.values(weight.parts), ...(seen ? (codec.calibrates ?? []).map((s) => seen.get(s)) : [])],
    () => {
      let made: Weight
      tidy(() => {
        made = packed(codec, weight.dense() as Tensor2D, seen)
        for (const t of Object.values(made.parts)) keep(t)
      })
      return made!
    },
  )
