import type { Tensor } from '@weftjs/tensor'
import { addressOf } from '@weftjs/tensor/heap'
import * as module from '../wasm/encode.generated.ts'
import { inBlocks } from './heap.ts'
import { loopKernel } from './loop.ts'

const kernel = loopKernel<{ block: number; n: number }>({
  name: 'BlockAbsmax',
  dtype: 'float32',
  shape: ({ block, n }) => [Math.ceil(n / block)],
  run: ([x], out, { block, n }) => {
    for (let b = 0, from = 0; from < n; b++, from += block) {
      let most = 0
      for (let i = from, end = Math.min(from + block, n); i < end; i++) {
        const a = Math.abs(x![i]!)
        if (a > most) most = a
      }
      out[b] = most
    }
  },
  module,
  heap: (_, [x], out, { block, n }) => inBlocks(module, 'absmax', [out.size, block], [addressOf(x!), block, n], out),
  wgsl: {
    inputs: ['X'],
    numbers: ['block', 'n'],
    body: `
  var most = 0.0;
  let start = index * uniforms.block;
  for (var i = start; i < min(start + uniforms.block, uniforms.n); i++) { most = max(most, abs(X[i])); }
  result[index] = most;`,
  },
})

/** max |x| of each `block` consecutive numbers, the last block maybe short: x of n numbers → [⌈n/block⌉] */
export const absmax = (x: Tensor, block: number): Tensor => kernel([x], { block, n: x.size })

/** numbers that one thread looks at */
const STRETCH = 4096

const nonFinite = loopKernel<{ stretch: number; n: number }>({
  name: 'FirstNonFinite',
  dtype: 'int32',
  shape: ({ stretch, n }) => [Math.ceil(n / stretch)],
  run: ([x], out, { stretch, n }) => {
    out.fill(-1)
    for (let i = 0; i < n; i++) {
      const v = x![i]!
      if (v - v !== 0) {
        out[Math.floor(i / stretch)] = i
        return
      }
    }
  },
  module,
  heap: (_, [x], out, { stretch, n }) =>
    inBlocks(module, 'oddIn', [out.size, stretch], [addressOf(x!), stretch, n], out),
  wgsl: {
    inputs: ['X'],
    numbers: ['stretch', 'n'],
    body: `
  var found = -1;
  let start = index * uniforms.stretch;
  for (var i = start; i < min(start + uniforms.stretch, uniforms.n); i++) {
    if ((bitcast<u32>(X[i]) & 0x7f800000u) == 0x7f800000u) { found = i; break; }
  }
  result[index] = found;`,
  },
})

/** flat index of the first NaN or infinity of x; undefined where all is finite */
export const firstNonFinite = async (x: Tensor): Promise<number | undefined> => {
  if (x.size === 0) return undefined
  const found = nonFinite([x], { stretch: STRETCH, n: x.size })
  const values = await found.data()
  found.dispose()
  return [...values].find((i) => i >= 0)
}
