import type { Adapter, Site, Tensor2D, Tensor3D, Weight } from '@weftjs/spec'
import {
  add,
  expandDims,
  linear,
  matMul,
  reshape,
  type Tensor,
  tile,
  sum as total,
  transpose,
  zeros,
} from '@weftjs/tensor'
import { mustBeWhole } from './shared/start.ts'

export interface BoneOptions {
  /** r: the matrix is parted into blocks of r × r */
  readonly rank?: number
  /** blocks with the same outputs share a tensor (PEFT), or those with the same inputs (the authors' RWKV-PEFT) */
  readonly share?: 'out' | 'in'
}
export interface BoneState extends Record<string, Tensor> {
  /** [out/r, r, r], or [in/r, r, r]; zero at first */
  b: Tensor3D
}

/** numbers that train at a site: r·out, or r·in */
export const trainable = ({ weight }: Site, { rank = 64, share = 'out' }: BoneOptions = {}): number =>
  rank * weight!.shape[share === 'out' ? 0 : 1]

/** W_ij + W_ij·b_i + b_i: the rows i of blocks can be made only of W itself, so each step multiplies [out, in] by [r, r] */
const byOutputs = (base: Weight, b: Tensor3D): Weight => {
  const [out, input] = base.shape
  const [n, r] = b.shape
  const whole = (): Tensor2D => {
    const w = base.dense()
    const turned = reshape(matMul(reshape(w, [n, input, r]), b), [n, r, input / r, r])
    return add(w, reshape(add(turned, expandDims(b, 2)), [out, input])) as Tensor2D
  }
  const parts = { ...base.parts, b }
  return { shape: [out, input], format: 'bone', parts, apply: (x) => linear(x, whole()), dense: whole, like: base.like }
}

/** W_ij + W_ij·b_j + b_j: z_j = b_j·x_j goes before W, and what is added is Σ_j z_j at every block of outputs */
const byInputs = (base: Weight, b: Tensor3D): Weight => {
  const [out, input] = base.shape
  const [n, r] = b.shape
  return {
    shape: [out, input],
    format: 'bone',
    parts: { ...base.parts, b },
    like: base.like,
    apply: (x) => {
      const lead = x.shape.slice(0, -1)
      const parts = transpose(reshape(x, [-1, n, r]), [1, 0, 2]) // [n, N, r]
      const z = reshape(transpose(matMul(parts, b, false, true), [1, 0, 2]), [...lead, n, r])
      const added = tile(total(z, -2), [...lead.map(() => 1), out / r]) // [..., out]
      return add(base.apply(add(x, reshape(z, [...lead, input]))), added)
    },
    dense: () => {
      const w = base.dense()
      const blocks = transpose(reshape(w, [out, n, r]), [1, 0, 2]) // [n, out, r]
      const turned = add(matMul(blocks, b), tile(b, [1, out / r, 1]))
      return add(w, reshape(transpose(turned, [1, 0, 2]), [out, input])) as Tensor2D
    },
  }
}

/** W_ij·(I + b_i) + b_i over blocks of r × r (block affine)  —  Kang & Yin, arXiv:2409.15371 */
export const bone = (options: BoneOptions = {}): Adapter<BoneState> => {
  const { rank = 64, share = 'out' } = options
  if (share !== 'out' && share !== 'in')
    throw new Error(`bone: share must be 'out' or 'in', found ${JSON.stringify(share)}`)
  return {
    name: 'bone',
    options: { ...options },
    init: (site) => {
      const [out, input] = site.weight!.shape
      mustBeWhole(site.name, 'rank', rank)
      if (out % rank || input % rank)
        throw new Error(`${site.name}: rank ${rank} does not divide ${out} and ${input}; take a common divisor of them`)
      return { state: { b: zeros([(share === 'out' ? out : input) / rank, rank, rank]) as Tensor3D } }
    },
    // beyond 1.5x of LoRA's step by its mathematics: W + ΔW is made anew, and its gradient is a whole [out, in]
    weight: (base, { b }) => (share === 'out' ? byOutputs(base, b) : byInputs(base, b)),
  }
}
