import { backend, scalar } from '@tensorflow/tfjs-core'
import { addressOf, heapBytes, inParts, output, routines } from '../../heap.ts'
import { gemmOf } from '../../wasm/batch-matmul.ts'
import * as module from '../../wasm/cross-entropy.generated.ts'
import type { WasmBackend } from '../../wasm/heap.ts'
import type { Pass } from '../cross-entropy.ts'

type Six = [number, number, number, number, number, number]

/** logits that are worth a thread: about 0.1 ms */
const PART = 2 ** 17

/** One piece of logits for all rows in turn; the gradients are written where they stay. */
export const crossEntropyOnHeap: Pass = ({ hidden, head, targets, weights }, { rows, softcap = 0 }, wants) => {
  const gemm = gemmOf(backend() as unknown as WasmBackend)
  const floats = [hidden, head, weights]
  if (!gemm || !routines(module) || targets.dtype !== 'int32') return undefined
  if (!floats.every((t) => t.dtype === 'float32' && t.size > 0)) return undefined
  const [[N, D], V] = [hidden.shape as [number, number], head.shape[0]!]
  const [slopes, most] = [wants('hidden') || wants('head'), Math.min(rows, N)]
  const [logits, stats] = [output([most, V]), output([most, 2])]
  const dHidden = wants('hidden') ? output([N, D]) : undefined
  const dHead = wants('head') ? output([V, D]) : undefined
  const [x, w, t, p, z, s] = [hidden, head, targets, weights, logits, stats].map(addressOf) as Six
  let loss = 0
  for (let from = 0; from < N; from += most) {
    const m = Math.min(most, N - from)
    const here = x + 4 * D * from
    gemm({ m, n: V, k: D, transposeA: false, transposeB: true, a: here, b: w, c: z })
    inParts(module, 'crossEntropy', { n: m, least: Math.ceil(PART / V) }, (row, count) => {
      const at = 4 * (from + row)
      return [z + 4 * V * row, t + at, p + at, s + 8 * row, count, V, softcap, slopes ? 1 : 0]
    })
    const found = new Float32Array(heapBytes(s, 8 * m).slice().buffer)
    const factors = new Float32Array(heapBytes(p + 4 * from, 4 * m).slice().buffer)
    for (let i = 0; i < m; i++)
      if (factors[i] !== 0) loss += factors[i]! * (Math.log(found[2 * i]!) + found[2 * i + 1]!)
    if (dHidden)
      gemm({ m, n: D, k: V, transposeA: false, transposeB: false, a: z, b: w, c: addressOf(dHidden) + 4 * D * from })
    if (dHead)
      gemm({ m: V, n: D, k: m, transposeA: true, transposeB: false, a: z, b: here, c: addressOf(dHead), add: from > 0 })
  }
  logits.dispose()
  stats.dispose()
  return { y: scalar(loss), saved: { ...(dHidden && { dHidden }), ...(dHead && { dHead }) } }
}
