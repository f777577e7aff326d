import { findBackend } from '@tensorflow/tfjs-core'
import { findNative, type NativeLibrary } from './native.ts'
import { type Gemm, gemmOf, type Product, replaceMatMul } from './wasm/batch-matmul.ts'
import type { WasmBackend } from './wasm/heap.ts'
import { installWasmMatmul } from './wasm-matmul.ts'

/** CBLAS's own numbers */
const ROW_MAJOR = 101
const NO = 111
const YES = 112

/** Fewer multiplications than this are done sooner than a foreign call returns (a tenth of a microsecond). */
const SMALL = 2 ** 10
/** From two to this many rows against transposed rows, a BLAS packs more than it multiplies. */
const SKINNY = 4

/** Where the heap lies in this process. Asked again when the memory has grown, since it may have moved. */
const heapBase = (backend: WasmBackend, addressOf: (view: Uint8Array) => bigint): (() => number) => {
  let buffer: ArrayBufferLike | undefined
  let base = 0
  return () => {
    const { HEAPU8 } = backend.wasm
    if (HEAPU8.buffer !== buffer) {
      buffer = HEAPU8.buffer
      base = Number(addressOf(HEAPU8))
    }
    return base
  }
}

const blasGemm = (lib: NativeLibrary, base: () => number, small: Gemm | undefined): Gemm => {
  const sgemm = lib.func(
    'void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, uintptr_t a, int lda, uintptr_t b, int ldb, float beta, uintptr_t c, int ldc)',
  )
  const sgemv = lib.func(
    'void cblas_sgemv(int order, int ta, int m, int n, float alpha, uintptr_t a, int lda, uintptr_t x, int incx, float beta, uintptr_t y, int incy)',
  )
  // y [rows or columns of w] = op(W)·x with W [rows, columns] as it is stored, its rows `ld` apart
  const vector = (
    [w, rows, columns, ld]: readonly [number, number, number, number],
    transpose: boolean,
    [x, stepX]: readonly [number, number],
    [y, stepY]: readonly [number, number],
    beta: number,
  ): void => sgemv(ROW_MAJOR, transpose ? YES : NO, rows, columns, 1, w, ld, x, stepX, beta, y, stepY)

  const multiply = (product: Product): void => {
    const { m, n, k, transposeA, transposeB, a, b, c, add } = product
    const { lda = transposeA ? m : k, ldb = transposeB ? k : n, ldc = n } = product
    if (small && (m * n * k < SMALL || (transposeB && !transposeA && m > 1 && m <= SKINNY))) {
      small(product)
      return
    }
    const heap = base()
    const beta = add ? 1 : 0
    if (m === 1) {
      const right = [heap + b, transposeB ? n : k, transposeB ? k : n, ldb] as const
      vector(right, !transposeB, [heap + a, transposeA ? lda : 1], [heap + c, 1], beta)
    } else if (n === 1) {
      const left = [heap + a, transposeA ? k : m, transposeA ? m : k, lda] as const
      vector(left, transposeA, [heap + b, transposeB ? 1 : ldb], [heap + c, ldc], beta)
    } else {
      const [ta, tb] = [transposeA ? YES : NO, transposeB ? YES : NO]
      sgemm(ROW_MAJOR, ta, tb, m, n, k, 1, heap + a, lda, heap + b, ldb, beta, heap + c, ldc)
    }
  }
  return (...products) => {
    for (const product of products) multiply(product)
  }
}

/**
 * Lets a system BLAS multiply float32 matrices where they lie on the heap of tfjs's wasm backend, without a copy.
 * Node only, with the backend 'wasm' registered. → what was found, for people ("openblas, 2 threads"); '' where there
 * is none, and the products stay with our own kernel.
 */
export const useBlas = async (): Promise<string> => {
  const backend = findBackend('wasm') as unknown as WasmBackend | null
  if (!backend) throw new Error('useBlas: the backend "wasm" is not registered; call wasm() first')
  await installWasmMatmul(backend)
  const native = await findNative({ needs: ['cblas_sgemm', 'cblas_sgemv'] })
  if ('missing' in native) return ''
  const name = 'koffi' // a name in a variable: bundlers leave the import alone
  const koffi = (await import(/* @vite-ignore */ name)) as { address(view: Uint8Array): bigint }
  if (!own.has(backend)) own.set(backend, gemmOf(backend))
  replaceMatMul(backend, blasGemm(native.lib, heapBase(backend, koffi.address), own.get(backend)))
  return native.threads ? `${native.kind}, ${native.threads} thread${native.threads > 1 ? 's' : ''}` : native.kind
}

/** our own product of each backend, for small ones, kept from the first call */
const own = new WeakMap<object, Gemm | undefined>()
