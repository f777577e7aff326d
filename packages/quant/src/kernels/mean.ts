import type { Tensor } from '@weftjs/tensor'
import { loopKernel } from './loop.ts'

const kernel = loopKernel<{ block: number; n: number; over: number }>({
  name: 'BlockAbsmean',
  dtype: 'float32',
  shape: ({ block, n }) => [Math.ceil(n / block)],
  run: ([x, least], out, { block, n, over }) => {
    for (let b = 0, from = 0; from < n; b++, from += block) {
      let [total, count] = [0, 0]
      // a half that rounds to the even 0 does not count: compared as the codes are made
      const s = least![b * over]!
      for (let i = from, end = Math.min(from + block, n); i < end; i++) {
        const a = Math.abs(x![i]!)
        if (over && !(Math.fround(a / s) > 0.5)) continue
        total += a
        count++
      }
      out[b] = count ? total / count : 0
    }
  },
  wgsl: {
    inputs: ['X', 'L'],
    numbers: ['block', 'n', 'over'],
    body: `
  var total = 0.0;
  var count = 0.0;
  let s = L[index * uniforms.over];
  let start = index * uniforms.block;
  for (var i = start; i < min(start + uniforms.block, uniforms.n); i++) {
    let a = abs(X[i]);
    if (uniforms.over == 1 && !(a / s > 0.5)) { continue; }
    total += a;
    count += 1.0;
  }
  result[index] = select(0.0, total / max(count, 1.0), count > 0.0);`,
  },
})

/** mean |x| of each `block` consecutive numbers, of those only that are more than half of `over` [blocks] where given: x of n numbers → [⌈n/block⌉] */
export const absmean = (x: Tensor, block: number, over?: Tensor): Tensor =>
  kernel([x, over ?? x], { block, n: x.size, over: over ? 1 : 0 })
