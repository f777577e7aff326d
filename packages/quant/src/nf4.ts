import type { Codec } from '@weftjs/spec'
import { type FourBitOptions, type FourBitParts, fourBit } from './kernels/four-bit.ts'
import { table } from './kernels/table.ts'

export type Nf4Options = FourBitOptions

// biome-ignore format: a table, by code
/** Quantiles of N(0, 1), with an exact zero, so that each code is about as likely as any other. */
export const NF4: readonly number[] = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
]
const BOOK = table(NF4)

/** Nearest of 16 normal quantiles times the block's largest magnitude: 4.5 bits a weight, 4.127 double  —  Dettmers et al., arXiv:2305.14314 */
export const nf4 = (options: Nf4Options = {}): Codec<FourBitParts> => fourBit('nf4', BOOK, options)
