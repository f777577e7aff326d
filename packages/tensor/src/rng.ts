import { getBackend, type Tensor, tensor } from '@tensorflow/tfjs-core'
import type { Rng } from '@weftjs/spec'
import { normalOf } from './normal.ts'

/**
 * Philox 4x32-10, a counter-based generator: block n of a stream is a pure function of (key, n), so noise can be
 * made again instead of stored  —  Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 * Writes the four words of block `counter` under `key` into `out`, from `at` on.
 */
export const philox = (
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
  out: Uint32Array,
  at = 0,
): void => {
  let [c0, c1, c2, c3] = counter
  let [k0, k1] = key
  for (let round = 0; round < 10; round++) {
    const lo0 = Math.imul(0xd2511f53, c0)
    const hi0 = mulHigh(0xd2511f53, c0)
    const lo1 = Math.imul(0xcd9e8d57, c2)
    const hi1 = mulHigh(0xcd9e8d57, c2)
    c0 = hi1 ^ c1 ^ k0
    c1 = lo1
    c2 = hi0 ^ c3 ^ k1
    c3 = lo0
    k0 = (k0 + 0x9e3779b9) | 0
    k1 = (k1 + 0xbb67ae85) | 0
  }
  out[at] = c0
  out[at + 1] = c1
  out[at + 2] = c2
  out[at + 3] = c3
}

/** upper 32 bits of the unsigned 64-bit product */
const mulHigh = (a: number, b: number): number => {
  const a0 = a & 0xffff
  const a1 = a >>> 16
  const b0 = b & 0xffff
  const b1 = b >>> 16
  // by halves, none of whose sums leaves 32 bits
  const t = (Math.imul(a1, b0) + (Math.imul(a0, b0) >>> 16)) >>> 0
  const low = (Math.imul(a0, b1) + (t & 0xffff)) >>> 0
  return (Math.imul(a1, b1) + (t >>> 16) + (low >>> 16)) | 0
}

/** FNV-1a, 32 bits: names of streams to numbers */
const hash = (text: string, seed: number): number => {
  let h = (0x811c9dc5 ^ seed) | 0
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return h >>> 0
}

/** what is drawn: normal of deviation a, uniform in [a, b), 1 with chance a */
interface Drawn {
  readonly kind: 'normal' | 'uniform' | 'bernoulli'
  readonly a: number
  readonly b: number
}
/** where in which stream */
export interface Place {
  readonly key: readonly [number, number]
  readonly high: number
  readonly block: number
}
export interface DrawOn {
  /** `plain` gives `count` numbers from that of a place on, a multiple of 4, in JavaScript */
  draw(drawn: Drawn, shape: readonly number[], at: Place, plain: (from: number, count: number) => Float32Array): Tensor
  /** at least n words */
  words(n: number, at: Place): Uint32Array
}
/** by backend, for more than a few numbers: the same bits, sooner */
export const drawOn: Record<string, DrawOn> = {}
const SMALL = 256

/**
 * A stream of random numbers: the same seed gives the same numbers on every backend and platform.
 * Each draw takes the next counters; `fork` names an independent stream.
 */
export const rng = (seed: number, stream = 0): Rng => {
  if (!Number.isInteger(seed)) throw new Error(`rng: the seed must be an integer, found ${seed}`)
  const key: [number, number] = [seed | 0, stream | 0]
  // the high word of seeds beyond 32 bits takes part as well
  const high = Math.floor(seed / 0x100000000) | 0
  let block = 0
  const wordsAt = (first: number, n: number): Uint32Array => {
    const out = new Uint32Array(Math.ceil(n / 4) * 4)
    for (let i = 0, b = first; i < out.length; i += 4, b++)
      philox([b | 0, Math.floor(b / 0x100000000), high, 0], key, out, i)
    return out
  }
  /** the place of the next n words */
  const take = (n: number): number => {
    const first = block
    block += Math.ceil(n / 4)
    return first
  }
  const draw = (shape: number[], drawn: Drawn, f: (word: number) => number): Tensor => {
    const n = shape.reduce((p, d) => p * d, 1)
    const first = take(n)
    const plain = (from: number, count: number): Float32Array => {
      const w = wordsAt(first + from / 4, count)
      const values = new Float32Array(count)
      for (let i = 0; i < count; i++) values[i] = f(w[i]!)
      return values
    }
    const faster = n > SMALL ? drawOn[getBackend()] : undefined
    return faster ? faster.draw(drawn, shape, { key, high, block: first }, plain) : tensor(plain(0, n), shape)
  }
  const unit = (word: number): number => (word + 0.5) / 0x100000000
  return {
    seed,
    normal: (shape, std = 1) => draw(shape, { kind: 'normal', a: std, b: 0 }, (w) => Math.fround(std) * normalOf(w)),
    uniform: (shape, lo = 0, hi = 1) =>
      draw(shape, { kind: 'uniform', a: lo, b: hi }, (w) => lo + (hi - lo) * ((w >>> 8) / 0x1000000)),
    bernoulli: (shape, p) => draw(shape, { kind: 'bernoulli', a: p, b: 0 }, (w) => (unit(w) < p ? 1 : 0)),
    numbers: (n) => {
      const first = take(2 * n)
      const faster = n > SMALL ? drawOn[getBackend()] : undefined
      const w = faster?.words(2 * n, { key, high, block: first }) ?? wordsAt(first, 2 * n)
      const found = new Float64Array(n)
      for (let i = 0; i < n; i++) found[i] = ((w[2 * i]! >>> 5) * 67108864 + (w[2 * i + 1]! >>> 6)) / 9007199254740992
      return found
    },
    fork: (name) => rng(seed, hash(String(name), key[1])),
  }
}
