import { type Gemm, type Product, replaceMatMul } from './wasm/batch-matmul.ts'
import { gemmBytes, rowsOf } from './wasm/gemm.ts'
import { memoryOf, type WasmBackend } from './wasm/heap.ts'
import type { Threaded } from './wasm/pool.ts'
import { scratchBytes } from './wasm/product.ts'
import { takesRelaxed } from './wasm/relaxed.ts'
import { poolOf } from './wasm/threads.ts'

/** Multiplications that a thread is woken for. */
const SHARE = 2 ** 19
/** Fewer rows than this take no less time: B is read from memory meanwhile. */
const FEW = 4
/** Pieces for each thread, so that one that is late does not keep the others waiting. */
const PIECES = 4
/** A piece has at least this many rows or columns, or packing costs more than it spares. */
const LEAST = 32

const defaults = (p: Product): Required<Product> => {
  const { m, n, k, transposeA, transposeB, add = false } = p
  const { lda = transposeA ? m : k, ldb = transposeB ? k : n, ldc = n } = p
  // a single column is a row of the transposed product
  return n === 1 && m > 1 && ldc === 1 && (transposeB || ldb === 1)
    ? {
        m: 1,
        n: m,
        k,
        transposeA: false,
        transposeB: !transposeA,
        a: p.b,
        lda: k,
        b: p.a,
        ldb: lda,
        c: p.c,
        ldc: m,
        add,
      }
    : { m, n, k, transposeA, transposeB, a: p.a, lda, b: p.b, ldb, c: p.c, ldc, add }
}

/** The product in `pieces` or fewer: by rows where A is transposed and taller than B is wide, else by columns. */
const split = (p: Required<Product>, pieces: number): Required<Product>[] => {
  const { m, n, transposeA, transposeB, a, lda, b, ldb, c, ldc } = p
  const byRows = transposeA && m > n
  const whole = byRows ? m : n
  const most = Math.min(pieces, Math.floor(whole / LEAST))
  if (most < 2) return [p]
  const step = Math.ceil(whole / most / 8) * 8
  return Array.from({ length: Math.ceil(whole / step) }, (_, i) => {
    const from = i * step
    const size = Math.min(step, whole - from)
    return byRows
      ? { ...p, m: size, a: a + 4 * from * (transposeA ? 1 : lda), c: c + 4 * from * ldc }
      : { ...p, n: size, b: b + 4 * from * (transposeB ? ldb : 1), c: c + 4 * from }
  })
}

const gemmFrom =
  ({ each }: Threaded, threads: number, scratch: number): Gemm =>
  (...products) => {
    const all = products.map(defaults)
    const work = all.reduce((sum, { m, n, k }) => sum + Math.max(m, FEW) * n * k, 0)
    const pieces = Math.min(threads * PIECES, Math.floor(work / SHARE))
    const parts =
      threads > 1 && pieces > all.length ? all.flatMap((p) => split(p, Math.ceil(pieces / all.length))) : all
    const calls = parts.map((p) => [
      p.m,
      p.n,
      p.k,
      Number(p.transposeA),
      Number(p.transposeB),
      p.a,
      4 * p.lda,
      p.b,
      4 * p.ldb,
      p.c,
      4 * p.ldc,
      Number(p.add),
      scratch,
    ])
    if (pieces > 1) each('product', calls)
    else for (const call of calls) each('product', [call])
  }

const installed = new WeakMap<object, Promise<boolean>>()

const install = async (backend: WasmBackend): Promise<boolean> => {
  if (!memoryOf(backend)) return false
  const relaxed = takesRelaxed(gemmBytes(true))
  const [rows, bytes] = [rowsOf(relaxed), gemmBytes(relaxed)]
  if (!WebAssembly.validate(bytes)) return false
  const pool = poolOf(backend)
  const scratch = backend.wasm._malloc(pool.threads * scratchBytes(rows)) >>> 0
  if (scratch === 0) return false
  replaceMatMul(backend, gemmFrom(pool.load(bytes), pool.threads, scratch))
  return true
}

/**
 * Replaces the matrix product of tfjs's wasm backend, which is slow for transposed and batched operands and keeps a
 * packed copy of every right side, by our own SIMD kernel, in several threads where the heap is shared. → false, and
 * nothing changed, where the engine has no SIMD or the backend keeps its memory to itself.
 */
export const installWasmMatmul = (backend: object): Promise<boolean> => {
  const done = installed.get(backend) ?? install(backend as WasmBackend)
  installed.set(backend, done)
  return done
}
