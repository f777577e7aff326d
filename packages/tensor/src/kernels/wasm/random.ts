import { addressOf, heapBytes, inThreads, output } from '../../heap.ts'
import type { DrawOn, Place } from '../../rng.ts'
import * as module from '../../wasm/random.generated.ts'

/** numbers that the routine makes at once */
const WIDTH = 32
/** and that are worth a thread's waking */
const PART = 2 ** 15
const KINDS = { normal: 0, uniform: 1, bernoulli: 2, words: 3 } as const

/** n numbers, of whole WIDTHs, from this address on */
const fill = (
  kind: keyof typeof KINDS,
  [a, b]: readonly [number, number],
  n: number,
  at: number,
  place: Place,
): void => {
  const { key, high, block } = place
  // parts of one size, for whichever thread is free
  const calls: number[][] = []
  for (let i = 0; i < n; i += PART)
    calls.push([KINDS[kind], a, b, key[0], key[1], high, block + i / 4, Math.min(PART, n - i), at + 4 * i])
  if (calls.length) inThreads(module, 'draw', calls)
}

export const drawOnHeap: DrawOn = {
  draw: ({ kind, a, b }, shape, place, plain) => {
    const y = output(shape)
    const at = addressOf(y)
    const done = y.size - (y.size % WIDTH)
    fill(kind, [a, b], done, at, place)
    if (done < y.size) heapBytes(at + 4 * done, 4 * (y.size - done)).set(bytesOf(plain(done, y.size - done)))
    return y
  },
  words: (n, place) => {
    const room = Math.ceil(n / WIDTH) * WIDTH
    const y = output([room])
    const at = addressOf(y)
    fill('words', [0, 0], room, at, place)
    const found = new Uint32Array(heapBytes(at, 4 * room).slice().buffer)
    y.dispose()
    return found
  },
}

const bytesOf = ({ buffer }: Float32Array): Uint8Array => new Uint8Array(buffer)
