import { addressOf, heapBytes, inParts, output } from '../../heap.ts'
import type { DrawOn } from '../../rng.ts'
import * as module from '../../wasm/random.generated.ts'

/** numbers that the routine makes at once, of WIDTH/4 blocks */
const WIDTH = 32
/** how many times as many are worth a thread */
const LEAST = 2 ** 8
const KINDS = { normal: 0, uniform: 1, bernoulli: 2 } as const

export const drawOnHeap: DrawOn = ({ kind, a, b }, shape, { key, high, block }, plain) => {
  const y = output(shape)
  const at = addressOf(y)
  const n = Math.floor(y.size / WIDTH)
  inParts(module, 'draw', { n, least: LEAST }, (from, count) => {
    const first = block + (from * WIDTH) / 4
    return [KINDS[kind], a, b, key[0], key[1], high, first, count * WIDTH, at + 4 * WIDTH * from]
  })
  const done = n * WIDTH
  if (done < y.size) heapBytes(at + 4 * done, 4 * (y.size - done)).set(bytesOf(plain(done, y.size - done)))
  return y
}

const bytesOf = ({ buffer }: Float32Array): Uint8Array => new Uint8Array(buffer)
