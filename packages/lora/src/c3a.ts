import type { Adapter, Site, Tensor3D } from '@weftjs/spec'
import { type Tensor, zeros } from '@weftjs/tensor'
import { scale, sum } from '@weftjs/weight'
import { circulant } from './shared/circulant.ts'
import { patterned } from './shared/pattern.ts'
import { mustBeWhole } from './shared/start.ts'

export interface C3aOptions {
  /** b, which divides both sides of the matrix; the larger, the fewer numbers train */
  readonly block?: number
  /** another b at sites whose name matches the pattern */
  readonly blockPattern?: Readonly<Record<string, number>>
  /** distribution of the kernels; `zeros` begins as the model does */
  readonly init?: 'xavier' | 'kaiming' | 'gaussian' | 'zeros'
}
export interface C3aState extends Record<string, Tensor> {
  /** first rows of the blocks [out/b, in/b, b] */
  w: Tensor3D
}

const blockOf = ({ block = 256, blockPattern = {} }: C3aOptions): ((site: Site) => number) => {
  const find = patterned(blockPattern, 'c3a: blockPattern')
  return ({ name, module }) => find(name, module) ?? block
}

/** numbers that train at a site: out·in/b */
export const trainable = (site: Site, options: C3aOptions = {}): number => {
  const [out, input] = site.weight!.shape
  return (out * input) / blockOf(options)(site)
}

/**
 * W + D/in, D of circulant blocks  —  Chen et al., arXiv:2407.19342
 *
 * A step takes twice LoRA's: D is multiplied by as a matrix of the layer's size, see shared/circulant.ts.
 */
export const c3a = (options: C3aOptions = {}): Adapter<C3aState> => {
  const { init = 'xavier' } = options
  const at = blockOf(options)
  return {
    name: 'c3a',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      const b = at(site)
      mustBeWhole(site.name, 'block', b)
      if (out % b || input % b)
        throw new Error(`${site.name}: block ${b} does not divide ${out} and ${input}; take a common divisor of them`)
      const shape = [out / b, input / b, b]
      const bound = init === 'kaiming' ? Math.sqrt(1 / input) : Math.sqrt(6 / (input + out))
      const w = // [out/b, in/b, b]
        init === 'zeros' ? zeros(shape) : init === 'gaussian' ? rng.normal(shape) : rng.uniform(shape, -bound, bound)
      return { state: { w: w as Tensor3D } }
    },
    // one product [N, in]·[in, out] more than the frozen layer, forward and twice backward: see shared/circulant.ts
    weight: (base, { w }) => sum(base, scale(1 / base.shape[1], circulant(w))),
  }
}
