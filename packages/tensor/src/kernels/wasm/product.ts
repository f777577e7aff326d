import { backend, type Tensor } from '@tensorflow/tfjs-core'
import { addressOf, output } from '../../heap.ts'
import { gemmOf } from '../../wasm/batch-matmul.ts'
import type { WasmBackend } from '../../wasm/heap.ts'
import type { Product } from '../product.ts'

/** Up to this many rows a product on its own takes a shorter way than one that is added to what is there. */
const FEW = 8

/** Each product is added to what the output holds already, so that no other [m, n] is made. */
export const productOnHeap = (p: Product): Tensor | undefined => {
  const { a, b, transposeA = false, transposeB = false, scale = 1, and, onto, bias, into } = p
  const current = backend() as unknown as WasmBackend
  const gemm = gemmOf(current)
  const all = [a, b, ...(and ?? []), onto, bias, into].filter((t) => t !== undefined)
  if (!gemm || !all.every((t) => t.dtype === 'float32' && t.size > 0)) return undefined
  if ((onto || into) && (bias || scale !== 1 || (onto && into))) return undefined
  const [m, n] = [a.shape[transposeA ? 1 : 0]!, b.shape[transposeB ? 0 : 1]!]
  const y = into ?? output([m, n])
  const c = addressOf(y)
  const { HEAPU8 } = current.wasm // stays until the next tensor is made
  const floats = (address: number, size: number): Float32Array => new Float32Array(HEAPU8.buffer, address, size)
  const add = (x: Tensor, w: Tensor, more: boolean): void => {
    const k = x.shape[transposeA ? 0 : 1]!
    gemm({ m, n, k, transposeA, transposeB, a: addressOf(x), b: addressOf(w), c, add: more })
  }
  const biasFirst = bias && m > FEW && scale === 1
  const made = floats(c, m * n)
  if (onto) made.set(floats(addressOf(onto), m * n))
  if (biasFirst) {
    made.set(floats(addressOf(bias), n))
    for (let done = n; done < m * n; done *= 2) made.copyWithin(done, 0, Math.min(done, m * n - done))
  }
  add(a, b, Boolean(onto || into || biasFirst))
  if (and) add(...and, true)
  if (scale !== 1) for (let i = 0; i < made.length; i++) made[i]! *= scale
  if (bias && !biasFirst) {
    const values = floats(addressOf(bias), n)
    for (let i = 0; i < made.length; i += n) for (let j = 0; j < n; j++) made[i + j]! += values[j]!
  }
  return y
}
