const f32 = Math.fround
const step = (s: number, x: number, k: number): number => f32(f32(s * x) + k)
/** a + b·x + c·q + d·x·q, q = x², of the four from `at` on */
const cubic = (k: Float32Array, at: number, x: number, q: number): number =>
  step(step(k[at + 3]!, x, k[at + 2]!), q, step(k[at + 1]!, x, k[at]!))
const seventh = (k: Float32Array, x: number): number => {
  const q = f32(x * x)
  return step(cubic(k, 4, x, q), f32(q * q), cubic(k, 0, x, q))
}
const ninth = (k: Float32Array, x: number): number => {
  const q = f32(x * x)
  const h = f32(q * q)
  return step(step(step(k[9]!, x, k[8]!), h, cubic(k, 4, x, q)), h, cubic(k, 0, x, q))
}
// biome-ignore format: tables
const LOG = Float32Array.of(1.4426949, -0.7213528, 0.48092324, -0.36023962, 0.2870987, -0.24887687, 0.23404236, -0.14581166)
// biome-ignore format: tables
const NEAR = Float32Array.of(4.4358397, -0.4785643, -6.9386e-3, 9.605224e-4, 1.3594779e-4, 4.445142e-6, -8.119583e-7, -1.0364212e-7, 9.279781e-10, 7.568251e-10)
// biome-ignore format: tables
const FAR = Float32Array.of(8.950724, 2.3690636, 8.928809e-3, -4.9060797e-3, 2.5874977e-3, -1.589537e-3, 7.3863706e-4, -1.516058e-4)
const float = new Float32Array(1)
const bits = new Int32Array(float.buffer)

/** log₂ x: e of x = 2ᵉ·m, m in [√½, √2), and a polynomial of m − 1 */
const logarithm = (x: number): number => {
  float[0] = x
  const e = (bits[0]! - 0x3f3504f3) >> 23
  bits[0]! -= e << 23
  const f = f32(float[0] - 1)
  return f32(e + f32(seventh(LOG, f) * f))
}

/**
 * The standard normal number of a word of 32 bits: the quantile of p = (word + ½)/2³², to 5·10⁻⁷ of itself. It is z·P(t),
 * z = |p − ½|, P a polynomial of t = log₂ 4·p·(1 − p), or of √−t far out (after Giles, "Approximating the erfinv function",
 * 2010; coefficients fitted to the least relative error). Sums, products and a root in float32, so that SIMD gives the same bits.
 */
export const normalOf = (word: number): number => {
  const u = word ^ (word >> 31) // from far out to the middle, on both sides
  const p = f32(f32(f32(u) + 0.5) * 2 ** -32)
  const z = f32(f32(f32(0x7fffffff - u) + 0.5) * 2 ** -32)
  const t = logarithm(f32(4 * p * f32(0.5 + z)))
  const x = f32((t < -8 ? seventh(FAR, f32(f32(Math.sqrt(-t)) - 4)) : ninth(NEAR, f32(t + 4))) * z)
  return word >> 31 ? x : -x
}
