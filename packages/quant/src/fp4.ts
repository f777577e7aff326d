import type { Codec } from '@weftjs/spec'
import { type FourBitOptions, type FourBitParts, fourBit } from './kernels/four-bit.ts'
import { table } from './kernels/table.ts'

export type Fp4Options = FourBitOptions

/** Magnitudes in twelfths by the low three bits of the code; the fourth is the sign. Not OCP's E2M1. */
const TWELFTHS = [0, 0.0625, 8, 12, 4, 6, 2, 3]
export const FP4: readonly number[] = [...TWELFTHS.map((m) => m / 12), ...TWELFTHS.map((m) => -m / 12)]
const BOOK = table(FP4)

/** 4-bit floats times the block's largest magnitude, as bitsandbytes has them  —  Dettmers et al., arXiv:2305.14314 */
export const fp4 = (options: Fp4Options = {}): Codec<FourBitParts> => fourBit('fp4', BOOK, options)
