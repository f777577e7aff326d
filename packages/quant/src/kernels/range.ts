import type { Tensor } from '@weftjs/tensor'
import { loopKernel, roundEven } from './loop.ts'

/** what is asked of each block */
const KINDS = { peak: 0, scale: 1, zero: 2 } as const

const kernel = loopKernel<{ kind: number; block: number; n: number; most: number }>({
  name: 'BlockRange',
  dtype: 'float32',
  shape: ({ block, n }) => [Math.ceil(n / block)],
  run: ([x], out, { kind, block, n, most }) => {
    for (let b = 0, from = 0; from < n; b++, from += block) {
      let [low, high] = [0, 0] // zero is always within
      for (let i = from, end = Math.min(from + block, n); i < end; i++) {
        low = Math.min(low, x![i]!)
        high = Math.max(high, x![i]!)
      }
      // divided first, so that the range of numbers near the largest float32 has no overflow
      const scale = Math.fround(Math.fround(high / most) - Math.fround(low / most))
      if (kind === KINDS.peak) out[b] = -low > high ? low : high
      else out[b] = kind === KINDS.scale ? scale : scale > 0 ? roundEven(Math.fround(-low / scale)) : 0
    }
  },
  wgsl: {
    inputs: ['X'],
    numbers: ['kind', 'block', 'n', 'most'],
    body: `
  var low = 0.0;
  var high = 0.0;
  let start = index * uniforms.block;
  for (var i = start; i < min(start + uniforms.block, uniforms.n); i++) {
    low = min(low, X[i]);
    high = max(high, X[i]);
  }
  let most = f32(uniforms.most);
  let scale = high / most - low / most;
  if (uniforms.kind == 0) { result[index] = select(high, low, -low > high); }
  else if (uniforms.kind == 1) { result[index] = scale; }
  else { result[index] = select(0.0, round(-low / scale), scale > 0.0); }`,
  },
})

/** the number of the largest magnitude, with its sign; of both signs the positive one: x of n numbers → [⌈n/block⌉] */
export const peaks = (x: Tensor, block: number): Tensor => kernel([x], { kind: KINDS.peak, block, n: x.size, most: 1 })

/**
 * The even grid of most + 1 levels from the least to the largest number of each block, zero being among its levels:
 * scale = (max − min)/most, zero = round(−min/scale).
 */
export const ranges = (x: Tensor, block: number, most: number): { scale: Tensor; zero: Tensor } => {
  const attrs = { block, n: x.size, most }
  return { scale: kernel([x], { ...attrs, kind: KINDS.scale }), zero: kernel([x], { ...attrs, kind: KINDS.zero }) }
}
