/** What adapters are trained on before the real PEFT reads them. */
import type { Batch } from '@weftjs/spec'
import { rng } from '@weftjs/tensor'

export const fixtures: string = new URL('../../packages/testkit/fixtures/', import.meta.url).pathname

/** six batches of two random rows of ten tokens; the first four ids of a vocabulary are special ones */
export const batches = (vocabulary: number): Batch[] =>
  Array.from({ length: 6 }, (_, n) => {
    const [B, T] = [2, 10]
    const ids = Int32Array.from(rng(100 + n).numbers(B * T), (u) => 4 + Math.floor(u * (vocabulary - 4)))
    return {
      shape: [B, T],
      ids,
      targets: ids.map((_, i) => (i % T === T - 1 ? -100 : ids[i + 1]!)),
      positions: ids.map((_, i) => i % T),
      segments: new Int32Array(B * T).fill(1),
    }
  })
