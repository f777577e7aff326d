import type { Codec } from '@weftjs/spec'
import { F16, type HalfParts, halfCodec } from './kernels/half.ts'

/** IEEE 754's binary16, at most ±65504: 16 bits a weight, as checkpoints keep them  —  Micikevicius et al., arXiv:1710.03740 */
export const f16 = (): Codec<HalfParts> => halfCodec('f16', F16)
