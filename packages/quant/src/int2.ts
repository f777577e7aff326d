import type { Codec } from '@weftjs/spec'
import { type AffineOptions, type AffineParts, affineNamed } from './affine.ts'

export type Int2Options = Omit<AffineOptions, 'bits'>

/** 4 even steps by groups of a row, zero among them: 2 + 34/group bits a weight  —  the grid of Frantar et al., arXiv:2210.17323 */
export const int2 = ({ group = 64, symmetric = false, floatZero = false }: Int2Options = {}): Codec<AffineParts> =>
  affineNamed('int2', { bits: 2, group, symmetric, floatZero }, { group, symmetric, ...(floatZero && { floatZero }) })
