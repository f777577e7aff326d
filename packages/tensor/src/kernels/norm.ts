import { add, mean, mul, rsqrt, square, sub, sum, type Tensor } from '@tensorflow/tfjs-core'
import { unbroadcast } from '../gradients/rule.ts'
import { defineKernel } from '../kernel.ts'

interface Slope {
  /** gradient of the norm */
  dy: Tensor
  x: Tensor
  scale: Tensor
  eps: number
  wants: (input: string) => boolean
}
type Slopes = { x?: Tensor; scale?: Tensor; bias?: Tensor }

const leading = (x: Tensor): number[] => x.shape.slice(0, -1).map((_, i) => i)

const rms = (x: Tensor, scale: Tensor, eps: number): Tensor =>
  mul(mul(x, rsqrt(add(mean(square(x), -1, true), eps))), scale)
const rmsSlopes = ({ dy, x, scale, eps, wants }: Slope): Slopes => {
  const r = rsqrt(add(mean(square(x), -1, true), eps)) // [..., 1]
  const n = mul(x, r)
  const dn = mul(dy, scale)
  return {
    ...(wants('x') && { x: mul(r, sub(dn, mul(n, mean(mul(dn, n), -1, true)))) }),
    ...(wants('scale') && { scale: unbroadcast(sum(mul(dy, n), leading(x)), scale.shape) }),
  }
}

const layer = (x: Tensor, scale: Tensor, bias: Tensor, eps: number): Tensor => {
  const centred = sub(x, mean(x, -1, true))
  return add(mul(mul(centred, rsqrt(add(mean(square(centred), -1, true), eps))), scale), bias)
}
const layerSlopes = ({ dy, x, scale, eps, wants }: Slope): Slopes => {
  const centred = sub(x, mean(x, -1, true))
  const r = rsqrt(add(mean(square(centred), -1, true), eps)) // [..., 1]
  const n = mul(centred, r)
  const dn = mul(dy, scale)
  return {
    ...(wants('x') && { x: mul(r, sub(sub(dn, mean(dn, -1, true)), mul(n, mean(mul(dn, n), -1, true)))) }),
    ...(wants('scale') && { scale: sum(mul(dy, n), leading(x)) }),
    ...(wants('bias') && { bias: sum(dy, leading(x)) }),
  }
}

const rmsKernel = defineKernel<{ x: Tensor; scale: Tensor }, { eps: number }>({
  name: 'RmsNorm',
  plain: ({ x, scale }, { eps }) => rms(x, scale, eps),
  keeps: () => ['x', 'scale'],
  gradient: ({ dy, saved: { x, scale }, attrs: { eps }, wants }) =>
    rmsSlopes({ dy, x, scale, eps, wants: wants as Slope['wants'] }),
})

/** x/√(mean x² + ε)·scale over the last axis; x [..., D], scale [D]  —  Zhang & Sennrich, arXiv:1910.07467 */
export const rmsNorm = (x: Tensor, scale: Tensor, eps = 1e-6): Tensor => rmsKernel({ x, scale }, { eps })

const layerKernel = defineKernel<{ x: Tensor; scale: Tensor; bias: Tensor }, { eps: number }>({
  name: 'LayerNorm',
  plain: ({ x, scale, bias }, { eps }) => layer(x, scale, bias, eps),
  keeps: () => ['x', 'scale'],
  gradient: ({ dy, saved: { x, scale }, attrs: { eps }, wants }) =>
    layerSlopes({ dy, x, scale, eps, wants: wants as Slope['wants'] }),
})

/** (x − mean x)/√(var x + ε)·scale + bias over the last axis; x [..., D], scale and bias [D]  —  Ba et al., arXiv:1607.06450 */
export const layerNorm = (x: Tensor, scale: Tensor, bias: Tensor, eps = 1e-5): Tensor =>
  layerKernel({ x, scale, bias }, { eps })

type Added = { h: Tensor; branch: Tensor; scale: Tensor; bias?: Tensor | undefined }

/** [h + branch, norm(h + branch)]: what reaches the sum reaches both of its terms */
const added = (
  name: string,
  norm: (x: Tensor, scale: Tensor, bias: Tensor | undefined, eps: number) => Tensor,
  slopes: (s: Slope) => Slopes,
): ((inputs: Added, attrs: { eps: number }) => [Tensor, Tensor]) =>
  defineKernel<Added, { eps: number }, [Tensor, Tensor]>({
    name,
    plain: ({ h, branch, scale, bias }, { eps }) => {
      const total = add(h, branch) // [..., D]
      return [total, norm(total, scale, bias, eps)]
    },
    keeps: () => ['y', 'scale'],
    gradient: ({ dys: [dsum, dy], saved: { y, scale }, attrs: { eps }, wants }) => {
      const of: Slope['wants'] = (input) =>
        input === 'x' ? wants('h') || wants('branch') : wants(input as keyof Added)
      const { x, ...vectors } = slopes({ dy: dy!, x: y, scale, eps, wants: of })
      const d = x && add(dsum!, x)
      return { ...vectors, ...(d && { h: d, branch: d }) }
    },
  })

const addRms = added('AddRmsNorm', (x, scale, _, eps) => rms(x, scale, eps), rmsSlopes)
const addLayer = added('AddLayerNorm', (x, scale, bias, eps) => layer(x, scale, bias!, eps), layerSlopes)

const alike = (place: string, h: Tensor, branch: Tensor): void => {
  if (h.shape.join() !== branch.shape.join())
    throw new Error(`${place}: h [${h.shape}] and branch [${branch.shape}] must have one shape; broadcast one first`)
}

/** A residual and the norm after it in one pass: [h + branch, rmsNorm(h + branch)], h and branch [..., D], scale [D]. @throws Error where their shapes differ */
export const addRmsNorm = (h: Tensor, branch: Tensor, scale: Tensor, eps = 1e-6): [sum: Tensor, norm: Tensor] => {
  alike('addRmsNorm', h, branch)
  return addRms({ h, branch, scale }, { eps })
}

/** [h + branch, layerNorm(h + branch)], h and branch [..., D], scale and bias [D]. @throws Error where their shapes differ */
export const addLayerNorm = (
  h: Tensor,
  branch: Tensor,
  scale: Tensor,
  bias: Tensor,
  eps = 1e-5,
): [sum: Tensor, norm: Tensor] => {
  alike('addLayerNorm', h, branch)
  return addLayer({ h, branch, scale, bias }, { eps })
}
