/** Numbers −s, 0 and s: two masks, bit i of word ⌊i/32⌋ for number i, and what a set bit stands for. */
export interface TernaryVector {
  /** d */
  readonly length: number
  /** [⌈d/32⌉], bits from d on are 0, as in `minus` */
  readonly plus: Int32Array
  readonly minus: Int32Array
  readonly scale: number
}

/**
 * What a kept number becomes: α·std of all numbers (ComPEFT), or the mean magnitude of what is kept, which is nearest to
 * it in squares (sparse ternary compression, arXiv:1903.02891).
 */
export type Magnitude = 'std' | 'mean'

export interface TernaryVectorOptions {
  /** k, the share of numbers that keep their sign, above 0 and at most 1: the ⌊k·d⌋ largest, and what is as large as the last of them */
  readonly keep?: number
  readonly magnitude?: Magnitude
  /** α */
  readonly alpha?: number
}

export const checkTernary = (of: string, { keep = 0.1, magnitude = 'std', alpha = 1 }: TernaryVectorOptions): void => {
  if (!(keep > 0 && keep <= 1))
    throw new Error(
      `${of}: keep must be a share above 0 and at most 1, found ${keep}${keep > 1 && keep <= 100 ? `; for ${keep}% give ${keep / 100}` : ''}`,
    )
  if (magnitude !== 'std' && magnitude !== 'mean')
    throw new Error(`${of}: magnitude must be 'std' or 'mean', found ${JSON.stringify(magnitude)}`)
  if (!(alpha > 0 && Number.isFinite(alpha))) throw new Error(`${of}: alpha must be a number above 0, found ${alpha}`)
}

/** √(Σ(x − x̄)²/(d − 1)), in two passes */
export const std = (values: Float32Array): number => {
  const mean = values.reduce((s, v) => s + v, 0) / values.length
  const squares = values.reduce((s, v) => s + (v - mean) ** 2, 0)
  return values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0
}

/** the ⌊k·d⌋-th largest magnitude; 0 where all are kept */
export const threshold = (values: Float32Array, keep: number): number => {
  const n = Math.floor(keep * values.length)
  if (n === 0) return Number.POSITIVE_INFINITY
  if (n === values.length) return 0
  const sizes = values.map(Math.abs).sort()
  return sizes[values.length - n]!
}

/** Which numbers are kept, and the scale: numbers that are 0 have no sign, and stay. All of one magnitude, α·std is it again. */
export const toTernary = (
  values: Float32Array,
  { keep = 0.1, magnitude = 'std', alpha = 1 }: TernaryVectorOptions = {},
): TernaryVector => {
  const words = Math.ceil(values.length / 32)
  const [plus, minus] = [new Int32Array(words), new Int32Array(words)]
  const least = threshold(values, keep)
  let [count, sum] = [0, 0]
  for (let i = 0; i < values.length; i++) {
    const v = values[i]!
    if (v === 0 || !(Math.abs(v) >= least)) continue
    ;(v > 0 ? plus : minus)[i >> 5]! |= 1 << (i & 31)
    count++
    sum += Math.abs(v)
  }
  const scale = magnitude === 'std' ? alpha * std(values) : count ? sum / count : 0
  return { length: values.length, plus, minus, scale: Math.fround(scale) }
}

export const fromTernary = (
  { length, plus, minus, scale }: TernaryVector,
  from = 0,
  to: number = length,
): Float32Array => {
  const values = new Float32Array(to - from)
  for (let i = from; i < to; i++) {
    const [word, bit] = [i >> 5, 1 << (i & 31)]
    if (plus[word]! & bit) values[i - from] = scale
    else if (minus[word]! & bit) values[i - from] = -scale
  }
  return values
}

const bitsIn = (v: number): number => {
  const pairs = v - ((v >>> 1) & 0x55555555)
  const fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333)
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}

/** how many numbers are not 0 */
export const kept = ({ plus, minus }: TernaryVector): number => plus.reduce((n, p, i) => n + bitsIn(p | minus[i]!), 0)

/** ⟨a, b⟩ by counting bits: s_a·s_b·(agreements − disagreements) */
export const ternaryDot = (a: TernaryVector, b: TernaryVector): number => {
  if (a.length !== b.length)
    throw new Error(`ternaryDot: ${a.length} numbers and ${b.length}; both must be updates of the same tensors`)
  let n = 0
  for (let i = 0; i < a.plus.length; i++) {
    const [p, m, q, o] = [a.plus[i]!, a.minus[i]!, b.plus[i]!, b.minus[i]!]
    n += bitsIn((p & q) | (m & o)) - bitsIn((p & o) | (m & q))
  }
  return n * a.scale * b.scale
}

/** d·(H₂(k) + k) + 16 bits: what places and signs of a share k of d numbers take at least, and a scale */
export const ternaryEntropy = (d: number, k: number): number => {
  const part = (p: number): number => (p > 0 ? -p * Math.log2(p) : 0)
  return d * (part(k) + part(1 - k) + k) + 16
}
