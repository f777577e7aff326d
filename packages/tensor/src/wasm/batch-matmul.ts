import {
  BatchMatMul,
  getKernel,
  type KernelFunc,
  registerKernel,
  type TensorInfo,
  unregisterKernel,
} from '@tensorflow/tfjs-core'
import { address, type WasmBackend } from './heap.ts'

/** C [m, n] = op(A) [m, k] · op(B) [k, n]; addresses in bytes, every matrix row by row as it is stored. */
export interface Product {
  readonly m: number
  readonly n: number
  readonly k: number
  /** A is stored [k, m] */
  readonly transposeA: boolean
  /** B is stored [n, k] */
  readonly transposeB: boolean
  readonly a: number
  readonly b: number
  readonly c: number
  /** floats from one row of A, as it is stored, to the next; default: dense */
  readonly lda?: number
  /** and of B, and of C */
  readonly ldb?: number
  readonly ldc?: number
  /** the product is added to what C holds */
  readonly add?: boolean
}
/** Does the products, whose outputs do not overlap, in any order and perhaps in several threads. */
export type Gemm = (...products: readonly Product[]) => void

const count = (dims: readonly number[]): number => dims.reduce((p, d) => p * d, 1)

/** How far each leading dimension of the output moves within an operand, in matrices; 0 where it is broadcast. */
const strides = (dims: readonly number[], rank: number): number[] => {
  const out = new Array<number>(rank).fill(0)
  for (let i = dims.length - 1, step = 1; i >= 0; i--) {
    out[rank - dims.length + i] = dims[i] === 1 ? 0 : step
    step *= dims[i]!
  }
  return out
}

const broadcast = (a: readonly number[], b: readonly number[]): number[] => {
  const rank = Math.max(a.length, b.length)
  return Array.from({ length: rank }, (_, i) => {
    const [x, y] = [a[a.length - rank + i] ?? 1, b[b.length - rank + i] ?? 1]
    if (x !== y && x !== 1 && y !== 1) throw new Error(`matMul: leading dimensions [${a}] and [${b}] do not broadcast`)
    return x === 1 ? y : x
  })
}

const multiply = (
  backend: WasmBackend,
  gemm: Gemm,
  x: TensorInfo,
  y: TensorInfo,
  transposeA: boolean,
  transposeB: boolean,
): TensorInfo => {
  const [outerA, outerB] = [x.shape.slice(0, -2), y.shape.slice(0, -2)]
  const [rowsA = 1, columnsA = 1] = x.shape.slice(-2)
  const [rowsB = 1, columnsB = 1] = y.shape.slice(-2)
  const [m, k] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA]
  const [inner, n] = transposeB ? [columnsB, rowsB] : [rowsB, columnsB]
  if (k !== inner)
    throw new Error(
      `matMul: inner dimensions ${k} of [${x.shape}]${transposeA ? 'ᵀ' : ''} and ${inner} of [${y.shape}]${transposeB ? 'ᵀ' : ''} differ`,
    )
  const outer = broadcast(outerA, outerB)
  const out = backend.makeOutput([...outer, m, n], 'float32')
  const batch = count(outer)
  const [a, b, c] = [address(backend, x), address(backend, y), address(backend, out)]
  if (batch * m * n === 0) return out
  if (k === 0) {
    backend.wasm.HEAPU8.fill(0, c, c + 4 * batch * m * n)
    return out
  }
  // one B for the whole batch: the rows of all of A's matrices are one taller matrix
  if (!transposeA && count(outerB) === 1) {
    gemm({ m: batch * m, n, k, transposeA, transposeB, a, b, c })
    return out
  }
  const [stepA, stepB] = [strides(outerA, outer.length), strides(outerB, outer.length)]
  const products = Array.from({ length: batch }, (_, i): Product => {
    let [atA, atB] = [0, 0]
    for (let d = outer.length - 1, rest = i; d >= 0; d--) {
      const index = rest % outer[d]!
      rest = (rest - index) / outer[d]!
      atA += index * stepA[d]!
      atB += index * stepB[d]!
    }
    return { m, n, k, transposeA, transposeB, a: a + 4 * m * k * atA, b: b + 4 * k * n * atB, c: c + 4 * m * n * i }
  })
  gemm(...products)
  return out
}

const gemms = new WeakMap<object, Gemm>()
let stock: KernelFunc | undefined

/** The product that this backend object uses at present. */
export const gemmOf = (backend: WasmBackend): Gemm | undefined => gemms.get(backend)

/** Lets `gemm` do the float32 matrix products of this wasm backend; a backend it was not given keeps tfjs's own. */
export const replaceMatMul = (backend: WasmBackend, gemm: Gemm): void => {
  gemms.set(backend, gemm)
  if (stock) return
  const registered = getKernel(BatchMatMul, 'wasm')
  if (!registered) throw new Error('matMul: tfjs-backend-wasm is not loaded; import it and make it the backend first')
  const { kernelFunc } = registered
  stock = kernelFunc
  unregisterKernel(BatchMatMul, 'wasm')
  registerKernel({
    kernelName: BatchMatMul,
    backendName: 'wasm',
    kernelFunc: (call) => {
      const { a, b } = call.inputs as { a: TensorInfo; b: TensorInfo }
      const wasm = call.backend as unknown as WasmBackend
      const own = gemms.get(wasm)
      if (!own || a.dtype !== 'float32' || b.dtype !== 'float32') return kernelFunc(call)
      const { transposeA, transposeB } = call.attrs as unknown as { transposeA: boolean; transposeB: boolean }
      return multiply(wasm, own, a, b, transposeA, transposeB)
    },
  })
}
