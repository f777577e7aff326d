import type { Codec } from '@weftjs/spec'
import { BF16, type HalfParts, halfCodec } from './kernels/half.ts'

/** The upper half of each float32, rounded: 16 bits a weight, as checkpoints keep them  —  Kalamkar et al., arXiv:1905.12322 */
export const bf16 = (): Codec<HalfParts> => halfCodec('bf16', BF16)
