import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { abs, concat, div, max, maximum, minimum, mul, reshape, slice, tensor1d, tidy } from '@weftjs/tensor'
import { absmax } from './kernels/absmax.ts'
import { dynamicLevels } from './kernels/dynamic-map.ts'
import { codes, numbers } from './kernels/layout.ts'
import { decodeTable, encodeTable, type Table, table } from './kernels/table.ts'

export interface State4Options {
  /** numbers that share a scale, where `scale` is 'block' */
  readonly block?: number
  /** a first moment's dynamic map, or a second moment's, which has no sign and no zero */
  readonly signed?: boolean
  /** one scale for each block; or for each row and column, of which the smaller counts */
  readonly scale?: 'block' | 'rank1'
}
export interface State4Parts extends Record<string, Tensor> {
  /** codes, eight to an int32 word, the first of two in the high half of a byte [⌈n/8⌉] */
  q: Tensor
  /** largest magnitude of each block [⌈n/block⌉], or of each row and then of each column [out + in] */
  absmax: Tensor
}

export const DYNAMIC4: Table = table(dynamicLevels(4, true))
/** k/16 for k = 1 ... 16: a second moment that is rounded to 0 would make a step without bound */
export const LINEAR4: Table = table(Float32Array.from({ length: 16 }, (_, i) => (i + 1) / 16))

/** Optimizer states: m by a dynamic map, v by k/16 without 0: 4 + 32/block bits a number  —  Li et al., arXiv:2309.01507 */
export const state4 = ({ block = 128, signed = true, scale = 'block' }: State4Options = {}): Codec<State4Parts> => {
  if (!Number.isInteger(block) || block < 1)
    throw new Error(`state4: block must be a whole number of at least 1, found ${block}`)
  if (scale !== 'block' && scale !== 'rank1')
    throw new Error(`state4: scale must be 'block' or 'rank1', found ${JSON.stringify(scale)}`)
  const map = signed ? DYNAMIC4 : LINEAR4
  const most = (parts: Tensor, [out, input]: readonly [number, number]): Tensor => {
    const rows = reshape(slice(parts, [0], [out]), [out, 1])
    return minimum(rows, reshape(slice(parts, [out], [input]), [1, input])) // [out, in]
  }
  return {
    name: 'state4',
    options: { block, signed, scale },
    encode: (w) => {
      if (scale === 'block') {
        const found = absmax(w, block) // [⌈n/block⌉]
        return { q: encodeTable(w, found, map, block), absmax: found }
      }
      return tidy(() => {
        const size = abs(w)
        const found = concat([max(size, 1), max(size, 0)], 0) // [out + in]
        const shares = div(w, maximum(most(found, w.shape), 1e-38)) // [out, in]
        return { q: encodeTable(shares, tensor1d([1]), map, w.size), absmax: found }
      })
    },
    layout: ([out, input]) => ({
      q: codes(4, out * input),
      absmax: numbers(scale === 'block' ? Math.ceil((out * input) / block) : out + input),
    }),
    decode: (p, shape) => {
      const n = shape[0] * shape[1]
      if (scale === 'block') return reshape(decodeTable(p.q, p.absmax, map, block, n), [...shape]) as Tensor2D
      return tidy(() =>
        mul(reshape(decodeTable(p.q, tensor1d([1]), map, n, n), [...shape]), most(p.absmax, shape)),
      ) as Tensor2D
    },
  }
}
