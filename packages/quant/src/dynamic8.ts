import type { Codec, Tensor } from '@weftjs/spec'
import { reshape } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import { absmax } from './kernels/absmax.ts'
import { tableDecoder } from './kernels/decoder.ts'
import { codes, numbers } from './kernels/layout.ts'
import { decodeRows, decodeTable, encodeTable, type Table, table } from './kernels/table.ts'

export interface Dynamic8Options {
  /** numbers that share a scale */
  readonly block?: number
}
export interface Dynamic8Parts extends Record<string, Tensor> {
  /** codes, four to an int32 word, row-major [⌈n/4⌉] */
  q: Tensor
  /** largest magnitude of each block [⌈n/block⌉] */
  absmax: Tensor
}

/**
 * The dynamic 8-bit map: 0, 1, and for each decade 10⁻⁶ ... 1 the middles of 2^e equal parts of [0.1, 1], with both
 * signs  —  Dettmers, arXiv:1511.04561. In float32 as torch computes it.
 */
const dynamicLevels = (): Float32Array => {
  const levels = [0, 1]
  for (let e = 0; e < 7; e++) {
    const parts = 2 ** e
    const edge = linspace(parts + 1)
    for (let i = 0; i < parts; i++) {
      const middle = Math.fround(Math.fround(edge[i]! + edge[i + 1]!) / 2)
      const level = Math.fround(Math.fround(10 ** (e - 6)) * middle)
      levels.push(level, -level)
    }
  }
  return Float32Array.from(levels).sort()
}
/** n numbers from 0.1 to 1, from both ends and with fused multiply-add, as torch.linspace */
const linspace = (n: number): Float32Array => {
  const start = Math.fround(0.1)
  const step = Math.fround(Math.fround(1 - start) / (n - 1))
  return Float32Array.from({ length: n }, (_, i) => (i < n / 2 ? start + step * i : 1 - step * (n - 1 - i)))
}

/** the 256 levels in ascending order, code by code */
export const DYNAMIC: Table = table(dynamicLevels())

/** Levels of a map that is fine near zero, by blocks: 8 + 32/block bits a number  —  Dettmers et al., arXiv:2110.02861 */
export const dynamic8 = ({ block = 256 }: Dynamic8Options = {}): Codec<Dynamic8Parts> => {
  if (!Number.isInteger(block) || block < 1)
    throw new Error(`dynamic8: block must be a whole number of at least 1, found ${block}`)
  return {
    name: 'dynamic8',
    options: { block },
    encode: (w) => {
      const scale = absmax(w, block) // [⌈n/block⌉]
      return { q: encodeTable(w, scale, DYNAMIC, block), absmax: scale }
    },
    layout: ([out, input]) => ({ q: codes(8, out * input), absmax: numbers(Math.ceil((out * input) / block)) }),
    decode: (p, shape) => reshape(decodeTable(p.q, p.absmax, DYNAMIC, block, shape[0] * shape[1]), [...shape]),
    matmul: (x, p, shape) => decodedProduct(x, shape, tableDecoder(p.q, DYNAMIC, block, shape[0] * shape[1], p.absmax)),
    gradient: (dy, p, shape) =>
      decodedProduct(dy, shape, tableDecoder(p.q, DYNAMIC, block, shape[0] * shape[1], p.absmax), true),
    rows: (p, shape, index) =>
      reshape(decodeRows(p.q, p.absmax, DYNAMIC, block, shape, reshape(index, [-1])), [...index.shape, shape[1]]),
  }
}
