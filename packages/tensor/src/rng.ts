import { getBackend, type Tensor, tensor } from '@tensorflow/tfjs-core'
import type { Rng } from '@weftjs/spec'

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

/** ln x by exact arithmetic only, so that every JavaScript engine gives the same bits (Math.log need not) */
const ln = (x: number): number => {
  let e = 0
  while (x < 0.70710678118654752) {
    x *= 2
    e--
  }
  while (x > 1.4142135623730951) {
    x /= 2
    e++
  }
  const t = (x - 1) / (x + 1)
  const t2 = t * t
  let s = 0
  for (let k = 23; k >= 1; k -= 2) s = s * t2 + 1 / k
  return 2 * t * s + e * 0.6931471805599453
}

/** Quantile of the standard normal, |error| < 1e-15 relative  —  Wichura, algorithm AS 241 (PPND16), 1988 */
export const normalQuantile = (p: number): number => {
  const q = p - 0.5
  if (Math.abs(q) <= 0.425) return q * ratio(A, B, 0.180625 - q * q)
  const r = Math.sqrt(-ln(q < 0 ? p : 1 - p))
  const x = r <= 5 ? ratio(C, D, r - 1.6) : ratio(E, F, r - 5)
  return q < 0 ? -x : x
}
const ratio = (num: readonly number[], den: readonly number[], r: number): number => {
  let n = 0
  let d = 0
  for (let i = num.length - 1; i >= 0; i--) n = n * r + num[i]!
  for (let i = den.length - 1; i >= 0; i--) d = d * r + den[i]!
  return n / d
}
// biome-ignore format: tables
const A = [3.387132872796366608, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125, 45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727]
// biome-ignore format: tables
const B = [1, 42.313330701600911252, 687.1870074920579083, 5394.1960214247511077, 21213.794301586595867, 39307.89580009271061, 28729.085735721942674, 5226.495278852545925]
// biome-ignore format: tables
const C = [1.42343711074968357734, 4.6303378461565452959, 5.7694972214606914055, 3.64784832476320460504, 1.27045825245236838258, 0.24178072517745061177, 0.0227238449892691845833, 7.7454501427834140764e-4]
// biome-ignore format: tables
const D = [1, 2.05319162663775882187, 1.6763848301838038494, 0.68976733498510000455, 0.14810397642748007459, 0.0151986665636164571966, 5.475938084995344946e-4, 1.05075007164441684324e-9]
// biome-ignore format: tables
const E = [6.6579046435011037772, 5.4637849111641143699, 1.7848265399172913358, 0.29656057182850489123, 0.026532189526576123093, 0.0012426609473880784386, 2.71155556874348757815e-5, 2.01033439929228813265e-7]
// biome-ignore format: tables
const F = [1, 0.59983220655588793769, 0.13692988092273580531, 0.0148753612908506148525, 7.868691311456132591e-4, 1.8463183175100546818e-5, 1.4215117583164458887e-7, 2.04426310338993978564e-15]

/** what is drawn: normal of deviation a, uniform in [a, b), 1 with chance a */
interface Drawn {
  readonly kind: 'normal' | 'uniform' | 'bernoulli'
  readonly a: number
  readonly b: number
}
export type DrawOn = (
  drawn: Drawn,
  shape: readonly number[],
  at: { readonly key: readonly [number, number]; readonly high: number; readonly block: number },
) => Tensor
/** by backend, for tensors that are not small: the same bits, sooner */
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
  const words = (n: number): Uint32Array => {
    const out = new Uint32Array(Math.ceil(n / 4) * 4)
    for (let i = 0; i < out.length; i += 4, block++)
      philox([block | 0, Math.floor(block / 0x100000000), high, 0], key, out, i)
    return out
  }
  const draw = (shape: number[], drawn: Drawn, f: (word: number) => number): Tensor => {
    const n = shape.reduce((p, d) => p * d, 1)
    const faster = n > SMALL ? drawOn[getBackend()] : undefined
    if (faster) {
      const y = faster(drawn, shape, { key, high, block })
      block += Math.ceil(n / 4)
      return y
    }
    const w = words(n)
    const values = new Float32Array(n)
    for (let i = 0; i < n; i++) values[i] = f(w[i]!)
    return tensor(values, shape)
  }
  const unit = (word: number): number => (word + 0.5) / 0x100000000
  return {
    seed,
    normal: (shape, std = 1) => draw(shape, { kind: 'normal', a: std, b: 0 }, (w) => std * normalQuantile(unit(w))),
    uniform: (shape, lo = 0, hi = 1) =>
      draw(shape, { kind: 'uniform', a: lo, b: hi }, (w) => lo + (hi - lo) * ((w >>> 8) / 0x1000000)),
    bernoulli: (shape, p) => draw(shape, { kind: 'bernoulli', a: p, b: 0 }, (w) => (unit(w) < p ? 1 : 0)),
    numbers: (n) => {
      const w = words(2 * n)
      const found = new Float64Array(n)
      for (let i = 0; i < n; i++) found[i] = ((w[2 * i]! >>> 5) * 67108864 + (w[2 * i + 1]! >>> 6)) / 9007199254740992
      return found
    },
    fork: (name) => rng(seed, hash(String(name), key[1])),
  }
}
