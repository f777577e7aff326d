import { slice, type Tensor } from '@weftjs/tensor'
import { addressOf } from '@weftjs/tensor/heap'
import * as module from '../wasm/plain-encode.generated.ts'
import { inBlocks } from './heap.ts'
import { loopKernel, roundEven } from './loop.ts'

interface Attrs extends Record<string, number> {
  block: number
  n: number
  most: number
  /** 1: steps and then zeros; 0: the number of the largest magnitude */
  both: number
}
const blocksOf = ({ block, n }: Attrs): number => Math.ceil(n / block)

const kernel = loopKernel<Attrs>({
  name: 'BlockRange',
  dtype: 'float32',
  shape: (a) => [blocksOf(a) * (1 + a.both)],
  run: ([x], out, attrs) => {
    const { block, n, most, both } = attrs
    const count = blocksOf(attrs)
    for (let b = 0, from = 0; from < n; b++, from += block) {
      let [low, high] = [0, 0] // zero is always within
      for (let i = from, end = Math.min(from + block, n); i < end; i++) {
        low = Math.min(low, x![i]!)
        high = Math.max(high, x![i]!)
      }
      if (!both) {
        out[b] = -low > high ? low : high
        continue
      }
      // divided first, so that the range of numbers near the largest float32 has no overflow
      const scale = Math.fround(Math.fround(high / most) - Math.fround(low / most))
      out[b] = scale
      out[count + b] = scale > 0 ? roundEven(Math.fround((0 - low) / scale)) : 0
    }
  },
  module,
  heap: (_, [x], out, attrs) => {
    const { block, n, most, both } = attrs
    const count = blocksOf(attrs)
    inBlocks(module, 'range', [count, block], [addressOf(x!), both, most, count, block, n], out)
  },
  wgsl: {
    inputs: ['X'],
    numbers: ['block', 'n', 'most', 'both'],
    body: `
  var low = 0.0;
  var high = 0.0;
  let count = (uniforms.n + uniforms.block - 1) / uniforms.block;
  let start = index % count * uniforms.block;
  for (var i = start; i < min(start + uniforms.block, uniforms.n); i++) {
    low = min(low, X[i]);
    high = max(high, X[i]);
  }
  let most = f32(uniforms.most);
  let scale = high / most - low / most;
  if (uniforms.both == 0) { result[index] = select(high, low, -low > high); }
  else if (index < count) { result[index] = scale; }
  else { result[index] = select(0.0, round(-low / scale), scale > 0.0); }`,
  },
})

/** the number of the largest magnitude, with its sign; of both signs the positive one: x of n numbers → [⌈n/block⌉] */
export const peaks = (x: Tensor, block: number): Tensor => kernel([x], { block, n: x.size, most: 1, both: 0 })

/**
 * The even grid of most + 1 levels from the least to the largest number of each block, zero being among its levels:
 * scale = (max − min)/most, zero = round(−min/scale).
 */
export const ranges = (x: Tensor, block: number, most: number): { scale: Tensor; zero: Tensor } => {
  const found = kernel([x], { block, n: x.size, most, both: 1 }) // [2·blocks]
  const count = found.size / 2
  const part = (at: number): Tensor => slice(found, [at * count], [count])
  const parts = { scale: part(0), zero: part(1) }
  found.dispose()
  return parts
}
