import type { Codec } from '@weftjs/spec'
import { type AffineOptions, type AffineParts, affineNamed } from './affine.ts'

export type Int4Options = Omit<AffineOptions, 'bits'>

/** 16 even steps by groups of a row, zero among them: 4 + 36/group bits a weight  —  the grid of Frantar et al., arXiv:2210.17323 */
export const int4 = ({ group = 64, symmetric = false, floatZero = false }: Int4Options = {}): Codec<AffineParts> =>
  affineNamed('int4', { bits: 4, group, symmetric, floatZero }, { group, symmetric, ...(floatZero && { floatZero }) })
