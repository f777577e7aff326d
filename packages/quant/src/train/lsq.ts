import type { Adapter, Codec, Site, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import {
  abs,
  add,
  clipByValue,
  clone,
  defineKernel,
  div,
  greater,
  less,
  linear,
  logicalAnd,
  matMul,
  maximum,
  mean,
  mul,
  reshape,
  round,
  sub,
  sum,
  where,
  zerosLike,
} from '@weftjs/tensor'
import { fromParts } from '@weftjs/weight'
import { affine } from '../affine.ts'
import { blockOf } from '../kernels/group.ts'
import { packCodes } from '../kernels/grouped.ts'

export interface LsqOptions {
  readonly bits?: 2 | 3 | 4 | 8
  /** numbers of a row that share a step; -1: the whole row */
  readonly group?: number
  /** the gradient of a step times 1/√(N·Q), N numbers sharing it; without it steps move much faster than weights */
  readonly scaled?: boolean
}
export interface LsqState extends Record<string, Tensor> {
  /** the matrix before it is rounded [out, in] */
  w: Tensor2D
  /** steps, row by row [out·in/group] */
  s: Tensor
}

/** numbers that train at a site: in·out, and a step for each group */
export const trainable = ({ in: input, out }: Pick<Site, 'in' | 'out'>, { group = -1 }: LsqOptions = {}): number =>
  input * out + (out * input) / blockOf('lsq', group, input)

interface Grid {
  /** codes are −least ... most */
  readonly least: number
  readonly most: number
  readonly block: number
  /** of the gradient of s */
  readonly factor: number
}
/** a step that training has brought to 0 or below, and whose gradient may bring it back */
const NO_STEP = 1e-12
/** w/s [groups, block], and s [groups, 1] */
const inSteps = (w: Tensor, s: Tensor, { block }: Grid): { u: Tensor; step: Tensor } => {
  const step = maximum(reshape(s, [-1, 1]), NO_STEP)
  return { u: div(reshape(w, [-1, block]), step), step }
}
const codesOf = (u: Tensor, { least, most }: Grid): Tensor => round(clipByValue(u, -least, most))
const rounded = (w: Tensor, s: Tensor, grid: Grid): Tensor => {
  const { u, step } = inSteps(w, s, grid)
  return reshape(mul(codesOf(u, grid), step), [...w.shape])
}

/**
 * From that of the rounded matrix the gradients of w and s: ∂ŵ/∂w is 1 within the grid and 0 beyond its ends, ∂ŵ/∂s is
 * round(w/s) − w/s within and the end's code beyond.
 */
const gradientsOf = (g: Tensor, w: Tensor, s: Tensor, grid: Grid): { w: Tensor; s: Tensor } => {
  const { least, most, block, factor } = grid
  const { u } = inSteps(w, s, grid)
  const inside = logicalAnd(greater(u, -least), less(u, most))
  const rows = reshape(g, [-1, block]) // [groups, block]
  const codes = codesOf(u, grid)
  const slope = where(inside, sub(codes, u), codes)
  return {
    w: reshape(where(inside, rows, zerosLike(rows)), [...w.shape]),
    s: reshape(mul(sum(mul(rows, slope), 1), factor), [...s.shape]),
  }
}

const straight = defineKernel<{ w: Tensor; s: Tensor }, { grid: Grid }>({
  name: 'Lsq',
  plain: ({ w, s }, { grid }) => rounded(w, s, grid),
  keeps: () => ['w', 's'],
  gradient: ({ dy, saved: { w, s }, attrs: { grid } }) => gradientsOf(dy, w!, s!, grid),
})
/** x·ŵᵀ: the rounded matrix lives within one product, forward and backward */
const product = defineKernel<{ x: Tensor; w: Tensor; s: Tensor }, { grid: Grid }>({
  name: 'LsqMatMul',
  plain: ({ x, w, s }, { grid }) => linear(x, rounded(w, s, grid) as Tensor2D),
  gradient: ({ dy, saved: { x, w, s }, attrs: { grid }, wants, shapes }) => {
    const rows = reshape(dy, [-1, dy.shape.at(-1)!])
    const own =
      (wants('w') || wants('s')) && gradientsOf(matMul(rows, reshape(x, [-1, x.shape.at(-1)!]), true), w, s, grid) // of dyᵀ·x [out, in]
    return {
      ...(own && wants('w') && { w: own.w }),
      ...(own && wants('s') && { s: own.s }),
      ...(wants('x') && { x: reshape(matMul(rows, rounded(w, s, grid)), [...shapes.x]) }),
    }
  },
})

/**
 * W = s·round(clip(w/s, −2^(b−1), 2^(b−1) − 1)) with steps s that are learned with w  —  Esser et al., arXiv:1902.08153
 *
 * s begins at 2·E|w|/√Q, Q = 2^(b−1) − 1. The paper has one step for a layer; here each group has its own, so that `fold`
 * packs codes and steps as they are into `affine({ bits, group, symmetric: true })`. Weights alone are rounded, not
 * activations. Comes before other adapters at its sites. @family quant
 *
 * That it ends lower than steps that are not learned takes its time to show on mini (a step for each row, three seeds). Against
 * `fakeQuant`, whose steps follow the largest weight: after 40 steps 0.014 ± 0.020 nats lower in 2 bits and 0.006 ± 0.005 higher
 * in 3 (`npm run claims -- quant lsq`), after 160 lower with every seed, by 0.029 ± 0.010 and 0.005 ± 0.001. Against its own
 * first steps, kept, after 40 lower by 0.004 ± 0.004 and 0.005 ± 0.005.
 */
export const lsq = (options: LsqOptions = {}): Adapter<LsqState> => {
  const { bits = 4, group = -1, scaled = true } = options
  const codec = affine({ bits, group, symmetric: true }) as Codec
  const [least, most] = [2 ** (bits - 1), 2 ** (bits - 1) - 1]
  const gridOf = ([, width]: readonly [number, number]): Grid => {
    const block = blockOf('lsq', group, width)
    return { least, most, block, factor: scaled ? 1 / Math.sqrt(block * most) : 1 }
  }
  /** rounded matrices, by what they were rounded from */
  const sources = new WeakMap<Tensor, LsqState>()
  const bases = new WeakSet<Weight>()
  const packedAs = (from: LsqState | undefined, matrix: Tensor2D): Weight => {
    if (!from) return fromParts(codec, codec.encode(matrix), matrix.shape)
    const grid = gridOf(matrix.shape)
    const { u, step } = inSteps(from.w, from.s, grid)
    const q = packCodes(add(codesOf(u, grid), least), bits)
    return fromParts(codec, { q, scale: reshape(step, [-1]) }, matrix.shape)
  }
  return {
    name: 'lsq',
    options: { ...options },
    init: ({ name, weight }) => {
      // the parts stay the network's own
      const base: Weight = { ...weight!, parts: {}, like: (m) => packedAs(sources.get(m), m) }
      bases.add(base)
      const w = clone(weight!.dense()) as Tensor2D // [out, in]
      let grid: Grid
      try {
        grid = gridOf(weight!.shape)
      } catch (error) {
        throw new Error(`${name}: ${(error as Error).message}`, { cause: error })
      }
      const size = mean(abs(reshape(w, [-1, grid.block])), 1) // [groups]
      return { state: { w, s: maximum(mul(size, 2 / Math.sqrt(most)), 1e-8) }, base }
    },
    weight: (base, { w, s }, { site }) => {
      if (!bases.has(base) && base.format !== site.weight?.format)
        throw new Error(`${site.name}: 'lsq' takes the place of a matrix; put it before the other adapters here`)
      const grid = gridOf(w.shape)
      return {
        shape: w.shape,
        format: 'lsq',
        parts: { w, s },
        apply: (x) => product({ x, w, s }, { grid }),
        dense: () => {
          const found = straight({ w, s }, { grid }) as Tensor2D // [out, in]
          sources.set(found, { w, s })
          return found
        },
        like: base.like,
      }
    },
  }
}
