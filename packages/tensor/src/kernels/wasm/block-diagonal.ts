import { backend, type Tensor } from '@tensorflow/tfjs-core'
import { addressOf, output } from '../../heap.ts'
import type { Faster } from '../../kernel.ts'
import { gemmOf, type Product } from '../../wasm/batch-matmul.ts'
import type { WasmBackend } from '../../wasm/heap.ts'

const gemm = (): ReturnType<typeof gemmOf> => gemmOf(backend() as unknown as WasmBackend)
const each = (n: number, f: (i: number) => Product): Product[] => Array.from({ length: n }, (_, i) => f(i))

/** the blocks' columns lie where they are: nothing is transposed */
export const blockDiagonal: Faster<{ x: Tensor; w: Tensor }, { back: boolean }> = {
  forward: ({ x, w }, { back }) => {
    const multiply = gemm()
    const [blocks, p, q] = w.shape as [number, number, number]
    const [k, n] = back ? [p, q] : [q, p]
    const m = x.shape[0]!
    if (!multiply || m * blocks * p * q === 0) return undefined
    const y = output([m, blocks * n])
    const [ax, aw, ay] = [addressOf(x), addressOf(w), addressOf(y)]
    multiply(
      ...each(blocks, (i) => ({
        ...{ m, n, k, transposeA: false, transposeB: !back },
        ...{ a: ax + 4 * k * i, lda: blocks * k, b: aw + 4 * p * q * i, c: ay + 4 * n * i, ldc: blocks * n },
      })),
    )
    return y
  },
}

export const blockOuter: Faster<{ a: Tensor; b: Tensor }, { n: number }> = {
  forward: ({ a, b }, { n: blocks }) => {
    const multiply = gemm()
    const [k, wide] = a.shape as [number, number]
    const [m, n] = [wide / blocks, b.shape[1]! / blocks]
    if (!multiply || k * m * n === 0) return undefined
    const y = output([blocks, m, n])
    const [aa, ab, ay] = [addressOf(a), addressOf(b), addressOf(y)]
    multiply(
      ...each(blocks, (i) => ({
        ...{ m, n, k, transposeA: true, transposeB: false },
        ...{ a: aa + 4 * m * i, lda: wide, b: ab + 4 * n * i, ldb: blocks * n, c: ay + 4 * m * n * i },
      })),
    )
    return y
  },
}
