import { reshape, sum, type Tensor } from '@tensorflow/tfjs-core'
import { addressOf, heapBytes, inParts, output, routines } from '../../heap.ts'
import type { Faster } from '../../kernel.ts'
import * as module from '../../wasm/sparse.generated.ts'
import { product } from '../product.ts'

const floats = (...tensors: (Tensor | undefined)[]): boolean =>
  tensors.every((t) => !t || (t.dtype === 'float32' && t.size > 0))
const flat = (x: Tensor): Tensor => reshape(x, [-1, x.shape.at(-1)!])
const fill = (t: Tensor): Tensor => {
  heapBytes(addressOf(t), 4 * t.size).fill(0)
  return t
}
const noughts = (shape: readonly number[]): Tensor => fill(output(shape))

/** addresses of rows and columns, all of which are there */
const placesOf = (places: Tensor, out: number, input: number): { rows: number; columns: number; k: number } => {
  const [rows, k] = [addressOf(places), places.shape[1]!]
  const columns = rows + 4 * k
  const odd = routines(module)!['wrong']!(rows, columns, k, out, input)
  if (odd >= 0) {
    const all = places.dataSync()
    throw new Error(`place ${odd} is [${all[odd]}, ${all[k + odd]}], outside of [${out}, ${input}]`)
  }
  return { rows, columns, k }
}

/** W + S, or S */
const added = (values: Tensor, places: Tensor, out: number, input: number, w?: Tensor): Tensor => {
  const y = output([out, input])
  const { rows, columns, k } = placesOf(places, out, input)
  if (w) heapBytes(addressOf(y), 4 * y.size).set(heapBytes(addressOf(w), 4 * y.size))
  else fill(y)
  routines(module)!['add']!(addressOf(y), addressOf(values), rows, columns, k, input)
  return y
}
const taken = (w: Tensor, places: Tensor): Tensor => {
  const [out, input] = w.shape as [number, number]
  const y = output([places.shape[1]!])
  const { rows, columns, k } = placesOf(places, out, input)
  routines(module)!['take']!(addressOf(w), rows, columns, addressOf(y), k, input)
  return y
}

/** rows of a part of a product one by one, so that waking a thread pays */
const LEAST = 2 ** 15
/** y [N, b] += x·Sᵀ, or dy·S by `back` */
const multiplied = (y: Tensor, x: Tensor, values: Tensor, places: Tensor, back = false): Tensor => {
  const [[n, a], b] = [x.shape as [number, number], y.shape[1]!]
  const { rows, columns, k } = back ? placesOf(places, a, b) : placesOf(places, b, a)
  const [from, to] = back ? [rows, columns] : [columns, rows]
  const [ax, av, ay] = [addressOf(x), addressOf(values), addressOf(y)]
  inParts(module, 'multiply', { n, least: Math.ceil(LEAST / k) }, (i, count) => [
    ...[ax + 4 * i * a, av, from, to, ay + 4 * i * b],
    ...[k, count, a, b],
  ])
  return y
}
/** Σ dy·x for each place [k] */
const slopes = (dy: Tensor, x: Tensor, places: Tensor): Tensor => {
  const [[n, out], input] = [dy.shape as [number, number], x.shape[1]!]
  const dv = noughts([places.shape[1]!])
  const { rows, columns, k } = placesOf(places, out, input)
  const [ady, ax, adv] = [addressOf(dy), addressOf(x), addressOf(dv)]
  inParts(module, 'slope', { n: k, least: Math.ceil(LEAST / n) }, (i, count) => [
    ...[ady, ax, rows + 4 * i, columns + 4 * i, adv + 4 * i],
    ...[count, n, out, input],
  ])
  return dv
}

/** one number at a time costs about as much as this many do within a product of matrices */
const TIMES = 30
/** is the sparse part better alone? With W at hand, a matrix W + S costs no more than a copy of W. */
const alone = (k: number, n: number, size: number, w?: Tensor): boolean => (w ? 4 * k * n <= size : TIMES * k <= size)

interface Inputs extends Record<string, Tensor | undefined> {
  x: Tensor
  values: Tensor
  places: Tensor
  w?: Tensor | undefined
  bias?: Tensor | undefined
}

export const linearSparse: Faster<Inputs, { out: number; input: number }> = {
  forward: ({ x, values, places, w, bias }, { out, input }) => {
    if (!floats(x, values, w, bias)) return undefined
    const a = flat(x)
    const n = a.shape[0]!
    const thin = alone(values.size, n, out * input, w)
    const whole = thin ? w : added(values, places, out, input, w)
    const y = whole ? product({ a, b: whole, transposeB: true, bias }) : undefined
    if (thin && bias && !y) return undefined
    const full = thin ? multiplied(y ?? noughts([n, out]), a, values, places) : y!
    return reshape(full, [...x.shape.slice(0, -1), out])
  },
  gradient: ({ dy, saved, attrs: { out, input }, wants, shapes }) => {
    const { x, values, places, w } = saved as unknown as Inputs
    if (wants('w') || !floats(dy, x, values)) return undefined
    const d = flat(dy)
    const [n, k] = [d.shape[0]!, places.shape[1]!]
    const dx = (): Tensor => {
      const thin = alone(k, n, out * input, w)
      const whole = thin ? w : added(values, places, out, input, w)
      const y = whole ? product({ a: d, b: whole }) : noughts([n, input])
      return thin ? multiplied(y, d, values, places, true) : y
    }
    const dv = (): Tensor =>
      alone(k, n, out * input)
        ? slopes(d, flat(x), places)
        : taken(product({ a: d, b: flat(x), transposeA: true }), places) // of dyᵀ·x [out, in]
    return {
      ...(wants('x') && { x: reshape(dx(), shapes['x'] as number[]) }),
      ...(wants('values') && { values: dv() }),
      ...(wants('bias') && { bias: sum(d, 0) }),
    }
  },
}

export const addAt: Faster<{ w: Tensor; values: Tensor; places: Tensor }, object> = {
  forward: ({ w, values, places }) =>
    floats(w, values) && w.rank === 2 ? added(values, places, w.shape[0]!, w.shape[1]!, w) : undefined,
}
export const takeAt: Faster<{ w: Tensor; places: Tensor }, object> = {
  forward: ({ w, places }) => (floats(w) && w.rank === 2 && places.size > 0 ? taken(w, places) : undefined),
}
