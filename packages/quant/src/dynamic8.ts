import type { Codec, Tensor } from '@weftjs/spec'
import { reshape } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import { absmax } from './kernels/absmax.ts'
import { tableDecoder } from './kernels/decoder.ts'
import { dynamicLevels } from './kernels/dynamic-map.ts'
import { codes, numbers } from './kernels/layout.ts'
import { decodeRows, decodeTable, encodeTable, type Table, table } from './kernels/table.ts'

export interface Dynamic8Options {
  /** numbers that share a scale */
  readonly block?: number
  /** false: a map of numbers ≥ 0 with twice the levels, for second moments; what is below 0 becomes 0 */
  readonly signed?: boolean
}
export interface Dynamic8Parts extends Record<string, Tensor> {
  /** codes, four to an int32 word, row-major [⌈n/4⌉] */
  q: Tensor
  /** largest magnitude of each block [⌈n/block⌉] */
  absmax: Tensor
}

/** the 256 levels in ascending order, code by code */
export const DYNAMIC: Table = table(dynamicLevels(8, true))
export const DYNAMIC_UNSIGNED: Table = table(dynamicLevels(8, false))

/** Levels of a map that is fine near zero, by blocks: 8 + 32/block bits a number  —  Dettmers et al., arXiv:2110.02861 */
export const dynamic8 = ({ block = 256, signed = true }: Dynamic8Options = {}): Codec<Dynamic8Parts> => {
  if (!Number.isInteger(block) || block < 1)
    throw new Error(`dynamic8: block must be a whole number of at least 1, found ${block}`)
  const map = signed ? DYNAMIC : DYNAMIC_UNSIGNED
  return {
    name: 'dynamic8',
    options: { block, ...(signed ? {} : { signed }) },
    encode: (w) => {
      const scale = absmax(w, block) // [⌈n/block⌉]
      return { q: encodeTable(w, scale, map, block), absmax: scale }
    },
    layout: ([out, input]) => ({ q: codes(8, out * input), absmax: numbers(Math.ceil((out * input) / block)) }),
    decode: (p, shape) => reshape(decodeTable(p.q, p.absmax, map, block, shape[0] * shape[1]), [...shape]),
    matmul: (x, p, shape) => decodedProduct(x, shape, tableDecoder(p.q, map, block, shape[0] * shape[1], p.absmax)),
    gradient: (dy, p, shape) =>
      decodedProduct(dy, shape, tableDecoder(p.q, map, block, shape[0] * shape[1], p.absmax), true),
    rows: (p, shape, index) =>
      reshape(decodeRows(p.q, p.absmax, map, block, shape, reshape(index, [-1])), [...index.shape, shape[1]]),
  }
}
