import type { Tensor } from '@weftjs/tensor'
import { loopKernel } from './loop.ts'

const kernel = loopKernel<{ k: number; width: number }>({
  name: 'Places',
  dtype: 'float32',
  shape: ({ k, width }) => [k, width],
  run: ([places], out, { width }) => {
    places!.forEach((at, i) => {
      if (at >= 0 && at < width) out[i * width + at] = 1
    })
  },
  wgsl: {
    inputs: ['P'],
    numbers: ['width'],
    body: 'result[index] = select(0.0, 1.0, P[index / uniforms.width] == index % uniforms.width);',
  },
})

/** 1 in the place that each row has, nothing where there is none: int32 [k] → [k, width] */
export const placesOf = (places: Tensor, width: number): Tensor => kernel([places], { k: places.size, width })
