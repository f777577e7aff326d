import { addressOf, inParts, output } from '../../heap.ts'
import type { DrawOn } from '../../rng.ts'
import * as module from '../../wasm/random.generated.ts'

/** blocks of four that are worth a thread */
const LEAST = 2 ** 11
const KINDS = { normal: 0, uniform: 1, bernoulli: 2 } as const

export const drawOnHeap: DrawOn = ({ kind, a, b }, shape, { key, high, block }) => {
  const y = output(shape)
  const at = addressOf(y)
  inParts(module, 'draw', { n: Math.ceil(y.size / 4), least: LEAST }, (from, count) => {
    const left = Math.min(4 * count, y.size - 4 * from)
    return [KINDS[kind], a, b, key[0], key[1], high, block + from, left, at + 16 * from]
  })
  return y
}
