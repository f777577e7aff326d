import { bfloat16, type TorchRandom, torchRandom } from './torch-random.ts'

/** entries of RandLoRA's bases */
export type Bases = 'dense' | 'sparse' | 'very-sparse'
interface Sizes {
  readonly m: number
  readonly M: number
  readonly N: number
}

/** standard deviation with n − 1 */
const deviation = (x: Float32Array): number => {
  let mean = 0
  for (const v of x) mean += v / x.length
  let square = 0
  for (const v of x) square += (v - mean) ** 2
  return Math.sqrt(square / Math.max(1, x.length - 1))
}
/** x over its standard deviation; PEFT holds the dense bases, and rounds each step, in bfloat16 */
const normal = (x: Float32Array, round: (v: number) => number): Float32Array => {
  const std = round(deviation(x))
  return x.map((v) => round(v / std))
}

/** ±1 with a chance of 1/2s each */
const ternary = (draw: TorchRandom, n: number, s: number): Float32Array => {
  const [low, high] = [Math.fround(1 / (2 * s)), Math.fround(1 - 1 / (2 * s))]
  return draw.uniform(n, 0, 1).map((v) => (v < low ? -1 : v > high ? 1 : 0))
}
const sparsity = (bases: Bases, m: number): number => (bases === 'sparse' ? 3 : Math.sqrt(m))

/** A [r, 1, m], the numbers of PEFT for a seed */
export const basisA = (bases: Bases, seed: number, r: number, { m }: Sizes): Float32Array => {
  const draw = torchRandom(seed)
  if (bases === 'dense') return normal(draw.uniform16(r * m, -1 / Math.sqrt(m), 1 / Math.sqrt(m)), bfloat16)
  return normal(ternary(draw, r * m, sparsity(bases, m)), Math.fround)
}

/** B [M, N, r], drawn after A */
export const basisB = (bases: Bases, seed: number, r: number, { m, M, N }: Sizes): Float32Array => {
  const draw = torchRandom(seed)
  draw.skip(r * m)
  if (bases !== 'dense') return normal(ternary(draw, M * N * r, sparsity(bases, m)), Math.fround)
  const out = new Float32Array(M * N * r)
  for (let n = 0; n < N; n++) {
    const one = draw.uniform16(M * r, -1 / Math.sqrt(r), 1 / Math.sqrt(r)) // [M, r]
    for (let i = 0; i < M; i++) out.set(one.subarray(i * r, (i + 1) * r), (i * N + n) * r)
  }
  return normal(out, bfloat16)
}
