import { type Gemm, replaceMatMul } from './wasm/batch-matmul.ts'
import { type GemmModule, gemmBytes, rowsOf } from './wasm/gemm.ts'
import { memoryOf, type WasmBackend } from './wasm/heap.ts'

/** Blocks of the right side are packed to [KC, NC] floats, which a level-2 cache holds. */
const KC = 512
const NC = 256

/** Few rows do not pay for packing the right side. */
const DIRECT = 12
/** Rows against transposed rows: up to this many are dot products. */
const DOTS = 8
/** rows of the right side that stay in the first cache while they meet every row of the left */
const DOT_BLOCK = 32

const gemmFrom = (kernels: GemmModule, rowsOfTile: number, scratch: number): Gemm => {
  const panels = scratch
  const left = scratch + 4 * KC * NC
  const call = (name: string, ...values: number[]): void => kernels[name]!(...values)

  const gemm: Gemm = ({ m, n, k, transposeA, transposeB, a, b, c, add = false, ...strides }) => {
    const { lda = transposeA ? m : k, ldc = n } = strides
    const contiguous = lda === (transposeA ? m : k) && ldc === n
    // a single column is a row of the transposed product
    if (n === 1 && m > 1 && contiguous)
      return gemm({ m: 1, n: m, k, transposeA: false, transposeB: !transposeA, a: b, b: a, c, add })
    const inRows = !transposeA || (m === 1 && lda === 1)
    if (!add && transposeB && m <= DOTS && inRows) {
      for (let j = 0; j < n; j += DOT_BLOCK)
        for (let i = 0; i < m; i++)
          call('dots', a + 4 * i * lda, b + 4 * j * k, 4 * k, c + 4 * (i * ldc + j), Math.min(DOT_BLOCK, n - j), k)
      return
    }
    if (!add && m === 1 && inRows) return call('combination', a, b, 4 * n, c, n, k)
    const tiles = Math.ceil(m / rowsOfTile)
    const blocks = Math.ceil(k / KC)
    const depth = Math.ceil(k / blocks / 4) * 4
    for (let j = 0; j < n; j += NC) {
      const width = Math.min(NC, n - j)
      for (let p = 0; p < k; p += depth) {
        const kc = Math.min(depth, k - p)
        const tail = width % 8
        const direct = !transposeB && m <= DIRECT
        const from = direct ? width - tail : 0 // columns before this are read where they are
        if (transposeB) call('packTransposed', b + 4 * (j * k + p), 4 * k, width, panels, kc)
        else
          for (let q = from; q < width; q += 8)
            call(`columns${Math.min(8, width - q)}`, b + 4 * (p * n + j + q), 4 * n, panels + 4 * q * kc, 32, kc)
        for (let t = 0, i = 0; t < tiles; t++) {
          const rows = Math.floor((m * (t + 1)) / tiles) - i
          if (transposeA) call(`columns${rows}`, a + 4 * (p * lda + i), 4 * lda, left, 4 * rows, kc)
          const start = transposeA ? left : a + 4 * (i * lda + p)
          const at = c + 4 * (i * ldc + j)
          const tile = kernels[transposeA ? `packed${rows}` : `rows${rows}`]!
          const more = add || p > 0 ? 1 : 0
          if (from > 0) tile(start, 4 * lda, b + 4 * (p * n + j), 4 * n, 32, at, 4 * ldc, from, kc, more)
          if (from < width)
            tile(start, 4 * lda, panels + 4 * from * kc, 32, 32 * kc, at + 4 * from, 4 * ldc, width - from, kc, more)
          i += rows
        }
      }
    }
  }
  return gemm
}

const installed = new WeakMap<object, Promise<boolean>>()

const install = async (backend: WasmBackend): Promise<boolean> => {
  const memory = memoryOf(backend)
  if (!memory) return false
  const candidates = [true, false].map((relaxed) => ({ rows: rowsOf(relaxed), bytes: gemmBytes(relaxed) }))
  const chosen = candidates.find(({ bytes }) => WebAssembly.validate(bytes))
  if (!chosen) return false
  const { rows, bytes } = chosen
  const { instance } = await WebAssembly.instantiate(bytes, { env: { memory } })
  const scratch = backend.wasm._malloc(4 * (KC * NC + KC * rows)) >>> 0
  if (scratch === 0) return false
  replaceMatMul(backend, gemmFrom(instance.exports as unknown as GemmModule, rows, scratch))
  return true
}

/**
 * Replaces the matrix product of tfjs's wasm backend, which is slow for transposed and batched operands and keeps a
 * packed copy of every right side, by our own SIMD kernel. → false, and nothing changed, where the engine has no SIMD
 * or the backend runs threads on a memory of its own.
 */
export const installWasmMatmul = (backend: object): Promise<boolean> => {
  const done = installed.get(backend) ?? install(backend as WasmBackend)
  installed.set(backend, done)
  return done
}
