import { backend } from '@tensorflow/tfjs-core'
import { addressOf } from '../../heap.ts'
import type { WasmBackend } from '../../wasm/heap.ts'
import { eachRun, type WriteRows } from '../write-rows.ts'

export const writeRows: WriteRows = (pairs, at) => {
  const { HEAPU8 } = (backend() as unknown as WasmBackend).wasm
  for (const [into, x] of pairs) {
    const [to, from] = [addressOf(into), addressOf(x)]
    eachRun(into, x, at, (start, source, n) => {
      HEAPU8.copyWithin(to + 4 * start, from + 4 * source, from + 4 * (source + n))
    })
  }
  return true
}
