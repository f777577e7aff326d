import { div, maximum, type Tensor, tidy } from '@weftjs/tensor'
import { addressOf } from '@weftjs/tensor/heap'
import * as module from '../wasm/plain-encode.generated.ts'
import { inBlocks } from './heap.ts'
import { loopKernel } from './loop.ts'

interface Attrs {
  readonly [name: string]: number
  readonly block: number
  readonly n: number
  /** 1: only what is more than half of its limit counts; the limits are one for each block where `each` is 1 */
  readonly over: number
  readonly each: number
  /** 1: how many count, in place of their sum */
  readonly count: number
}
const kernel = loopKernel<Attrs>({
  name: 'BlockSum',
  dtype: 'float32',
  shape: ({ block, n }) => [Math.ceil(n / block)],
  run: ([x, limits], out, { block, n, over, each, count }) => {
    for (let b = 0, from = 0; from < n; b++, from += block) {
      let total = 0
      // a half that rounds to the even 0 does not count: compared as the codes are made
      const limit = limits![b * each]!
      for (let i = from, end = Math.min(from + block, n); i < end; i++) {
        const a = Math.abs(x![i]!)
        if (!over || Math.fround(a / limit) > 0.5) total += count ? 1 : a
      }
      out[b] = total
    }
  },
  module,
  heap: (_, [x, limits], out, { block, n, over, each, count }) =>
    inBlocks(
      module,
      'sums',
      [out.size, block],
      [addressOf(x!), addressOf(limits!), 4 * each, over, count, block, n],
      out,
    ),
  wgsl: {
    inputs: ['X', 'L'],
    numbers: ['block', 'n', 'over', 'each', 'count'],
    body: `
  var total = 0.0;
  let limit = L[index * uniforms.each];
  let start = index * uniforms.block;
  for (var i = start; i < min(start + uniforms.block, uniforms.n); i++) {
    let a = abs(X[i]);
    if (uniforms.over == 0 || a / limit > 0.5) { total += select(a, 1.0, uniforms.count == 1); }
  }
  result[index] = total;`,
  },
})

/**
 * Mean |w| of each `block` consecutive numbers of w [out, in], a block being a part of a row or all of w; of those only that
 * are more than half of `over` [blocks], where given → [blocks], 0 where none is.
 */
export const absmean = (w: Tensor, block: number, over?: Tensor): Tensor =>
  tidy(() => {
    // of a whole matrix by rows first, so that no thread of a GPU goes through all of it
    const part = Math.min(block, Math.max(1, w.shape[1]!))
    const add = (count: 0 | 1): Tensor => {
      const attrs = { n: w.size, block: part, over: over ? 1 : 0, each: part === block ? 1 : 0, count }
      const sums = kernel([w, over ?? w], attrs) // [n/part]
      if (part === block) return sums
      return kernel([sums, sums], { n: sums.size, block: sums.size, over: 0, each: 0, count: 0 }) // [1]
    }
    const sums = add(0)
    return div(sums, over ? maximum(add(1), 1) : block)
  })
