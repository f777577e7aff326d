/**
 * Matrices that are zero but in k places. `places` [2, k] int32 holds their rows, then their columns; numbers that meet in
 * one place add up.
 */
import {
  add,
  gather,
  gatherND,
  mul,
  reshape,
  scatterND,
  slice,
  sum,
  type Tensor,
  transpose,
  unsortedSegmentSum,
  zeros,
} from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'
import { product } from './product.ts'

const rowsOf = (places: Tensor): Tensor => reshape(slice(places, [0, 0], [1, -1]), [-1]) as Tensor // [k]
const columnsOf = (places: Tensor): Tensor => reshape(slice(places, [1, 0], [1, -1]), [-1]) as Tensor // [k]
const flat = (x: Tensor): Tensor => reshape(x, [-1, x.shape.at(-1)!]) // [N, n]

/** S [out, in] */
const spread = (values: Tensor, places: Tensor, shape: readonly number[]): Tensor =>
  scatterND(transpose(places) as never, values, shape as number[])

type Taking = (inputs: { w: Tensor; places: Tensor }, attrs: object) => Tensor
type Adding = (inputs: { w: Tensor; values: Tensor; places: Tensor }, attrs: object) => Tensor

const taking: Taking = defineKernel<{ w: Tensor; places: Tensor }>({
  name: 'TakeAt',
  plain: ({ w, places }) => gatherND(w, transpose(places) as never),
  keeps: () => ['places'],
  gradient: ({ dy, saved: { places }, shapes }) => ({
    w: adding({ w: zeros(shapes.w as number[]), values: dy, places }, {}),
  }),
})

const adding: Adding = defineKernel<{ w: Tensor; values: Tensor; places: Tensor }>({
  name: 'AddAt',
  plain: ({ w, values, places }) => add(w, spread(values, places, w.shape)),
  keeps: (wants) => (wants('values') ? ['places'] : []),
  gradient: ({ dy, saved: { places }, wants }) => ({
    ...(wants('w') && { w: dy }),
    ...(wants('values') && { values: taking({ w: dy, places }, {}) }),
  }),
})

const checked = (name: string, places: Tensor, values?: Tensor): void => {
  if (places.rank !== 2 || places.shape[0] !== 2 || places.dtype !== 'int32')
    throw new Error(`${name}: places are [2, k] of int32, rows and columns; found [${places.shape}] of ${places.dtype}`)
  if (values && (values.rank !== 1 || values.size !== places.shape[1]))
    throw new Error(`${name}: [${values.shape}] values for ${places.shape[1]} places`)
}

/** w[row, column] of each place: w [n, m], places [2, k] int32 → [k]. Its gradient is zero elsewhere. */
export const takeAt = (w: Tensor, places: Tensor): Tensor => {
  checked('takeAt', places)
  return taking({ w, places }, {})
}

/** w with values added in their places: w [n, m], values [k], places [2, k] int32 → [n, m] */
export const addAt = (w: Tensor, values: Tensor, places: Tensor): Tensor => {
  checked('addAt', places, values)
  return adding({ w, values, places }, {})
}

/** Are k·N products one by one less than a matrix of their own? Then no [out, in] is made. */
const few = (k: number, n: number, out: number, input: number): boolean => k * n <= out * input

/** x·Sᵀ, or dy·S by `back`: numbers of x are gathered, weighed, and added up where they go */
const gathered = (x: Tensor, values: Tensor, places: Tensor, width: number, back = false): Tensor => {
  const [rows, columns] = [rowsOf(places), columnsOf(places)]
  const from = gather(transpose(flat(x)), (back ? rows : columns) as never) // [k, N]
  const parts = mul(from, reshape(values, [-1, 1]))
  return transpose(unsortedSegmentSum(parts, (back ? columns : rows) as never, width)) // [N, width]
}

interface Inputs extends Record<string, Tensor | undefined> {
  x: Tensor
  values: Tensor
  places: Tensor
  w?: Tensor | undefined
  bias?: Tensor | undefined
}
interface Attrs {
  readonly out: number
  readonly input: number
}

const matrix = (values: Tensor, places: Tensor, { out, input }: Attrs, w?: Tensor): Tensor =>
  w ? adding({ w, values, places }, {}) : spread(values, places, [out, input])

const multiplied = defineKernel<Inputs, Attrs>({
  name: 'LinearSparse',
  plain: ({ x, values, places, w, bias }, attrs) => {
    const { out, input } = attrs
    const a = flat(x)
    const shape = [...x.shape.slice(0, -1), out]
    if (!few(values.size, a.shape[0]!, out, input))
      return reshape(product({ a, b: matrix(values, places, attrs, w), transposeB: true, bias }), shape)
    const thin = gathered(a, values, places, out)
    const y = w ? product({ a, b: w, transposeB: true, onto: thin, bias }) : bias ? add(thin, bias) : thin
    return reshape(y, shape)
  },
  keeps: (wants) => ['places', ...(wants('x') ? ['w', 'values'] : []), ...(wants('values') || wants('w') ? ['x'] : [])],
  gradient: ({ dy, saved, attrs, wants, shapes }) => {
    const { x, values, places, w } = saved as unknown as Inputs
    const d = flat(dy)
    const { out, input } = attrs
    const thin = few(places.shape[1]!, d.shape[0]!, out, input)
    const dx = (): Tensor => {
      if (!thin) return product({ a: d, b: matrix(values, places, attrs, w) }) // dy·(W + S)
      const sparse = gathered(d, values, places, input, true)
      return w ? product({ a: d, b: w, onto: sparse }) : sparse
    }
    // the whole dyᵀ·x [out, in] where it is needed, or where k·N products would take more room
    const whole = wants('w') || (wants('values') && !thin) ? product({ a: d, b: flat(x), transposeA: true }) : undefined
    const slopes = (): Tensor =>
      whole
        ? taking({ w: whole, places }, {})
        : sum(
            mul(gather(transpose(d), rowsOf(places) as never), gather(transpose(flat(x)), columnsOf(places) as never)),
            1,
          )
    return {
      ...(wants('x') && { x: reshape(dx(), shapes['x'] as number[]) }),
      ...(wants('values') && { values: slopes() }), // [k]
      ...(wants('w') && { w: whole! }),
      ...(wants('bias') && { bias: sum(d, 0) }),
    }
  },
})

/**
 * x·(W + S)ᵀ + bias, S [out, in] with `values` [k] in its `places` [2, k] int32: x [..., in], W [out, in] or none → [..., out].
 * No matrix outlives the product, forward or backward: for the gradients x, values and places are kept.
 */
export const linearSparse = (
  x: Tensor,
  values: Tensor,
  places: Tensor,
  [out, input]: readonly [number, number],
  w?: Tensor,
  bias?: Tensor,
): Tensor => {
  checked('linearSparse', places, values)
  if (x.shape.at(-1) !== input || (w && w.shape.join() !== `${out},${input}`))
    throw new Error(`linearSparse: x [${x.shape}], W [${w?.shape ?? 'none'}] and S [${out},${input}] do not fit`)
  return multiplied({ x, values, places, w, bias }, { out, input })
}
