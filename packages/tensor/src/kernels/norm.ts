import { add, mean, mul, rsqrt, square, sub, sum, type Tensor } from '@tensorflow/tfjs-core'
import { unbroadcast } from '../gradients/rule.ts'
import { defineKernel } from '../kernel.ts'

const leading = (x: Tensor): number[] => x.shape.slice(0, -1).map((_, i) => i)

const rms = defineKernel<{ x: Tensor; scale: Tensor }, { eps: number }>({
  name: 'RmsNorm',
  plain: ({ x, scale }, { eps }) => mul(mul(x, rsqrt(add(mean(square(x), -1, true), eps))), scale),
  keeps: () => ['x', 'scale'],
  gradient: ({ dy, saved: { x, scale }, attrs: { eps }, wants }) => {
    const r = rsqrt(add(mean(square(x), -1, true), eps)) // [..., 1]
    const n = mul(x, r)
    const dn = mul(dy, scale)
    return {
      ...(wants('x') && { x: mul(r, sub(dn, mul(n, mean(mul(dn, n), -1, true)))) }),
      ...(wants('scale') && { scale: unbroadcast(sum(mul(dy, n), leading(x)), scale.shape) }),
    }
  },
})

/** x/√(mean x² + ε)·scale over the last axis; x [..., D], scale [D]  —  Zhang & Sennrich, arXiv:1910.07467 */
export const rmsNorm = (x: Tensor, scale: Tensor, eps = 1e-6): Tensor => rms({ x, scale }, { eps })

const layer = defineKernel<{ x: Tensor; scale: Tensor; bias: Tensor }, { eps: number }>({
  name: 'LayerNorm',
  plain: ({ x, scale, bias }, { eps }) => {
    const centred = sub(x, mean(x, -1, true))
    return add(mul(mul(centred, rsqrt(add(mean(square(centred), -1, true), eps))), scale), bias)
  },
  keeps: () => ['x', 'scale'],
  gradient: ({ dy, saved: { x, scale }, attrs: { eps }, wants }) => {
    const centred = sub(x, mean(x, -1, true))
    const r = rsqrt(add(mean(square(centred), -1, true), eps)) // [..., 1]
    const n = mul(centred, r)
    const dn = mul(dy, scale)
    return {
      ...(wants('x') && { x: mul(r, sub(sub(dn, mean(dn, -1, true)), mul(n, mean(mul(dn, n), -1, true)))) }),
      ...(wants('scale') && { scale: sum(mul(dy, n), leading(x)) }),
      ...(wants('bias') && { bias: sum(dy, leading(x)) }),
    }
  },
})

/** (x − mean x)/√(var x + ε)·scale + bias over the last axis; x [..., D], scale and bias [D]  —  Ba et al., arXiv:1607.06450 */
export const layerNorm = (x: Tensor, scale: Tensor, bias: Tensor, eps = 1e-5): Tensor =>
  layer({ x, scale, bias }, { eps })
