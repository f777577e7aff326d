import type { Codec } from '@weftjs/spec'
import { type AffineOptions, type AffineParts, affineNamed } from './affine.ts'

export type Int3Options = Omit<AffineOptions, 'bits'>

/** 8 even steps by groups of a row, zero among them: 3 + 35/group bits a weight  —  the grid of Frantar et al., arXiv:2210.17323 */
export const int3 = ({ group = 64, symmetric = false, floatZero = false }: Int3Options = {}): Codec<AffineParts> =>
  affineNamed('int3', { bits: 3, group, symmetric, floatZero }, { group, symmetric, ...(floatZero && { floatZero }) })
