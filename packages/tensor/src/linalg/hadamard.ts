import { type Matrix, matrix } from './matrix.ts'

const prime = (n: number): boolean => {
  if (n < 2) return false
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false
  return true
}

/** χ(i): 1 for squares mod q, −1 for others, 0 for 0 */
const quadratic = (q: number): Int8Array => {
  const out = new Int8Array(q).fill(-1)
  out[0] = 0
  for (let i = 1; i < q; i++) out[(i * i) % q] = 1
  return out
}

/** Order q + 1, q ≡ 3 mod 4 a prime: I + S — Paley, J. Math. Phys. 12 (1933), first construction */
const paleyFirst = (q: number): Matrix => {
  const chi = quadratic(q)
  const n = q + 1
  const out = matrix(n, n)
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) out.data[i * n + j] = i === j ? 1 : i === 0 ? 1 : j === 0 ? -1 : chi[(i - j + q) % q]!
  return out
}

/** Order 2(q + 1), q ≡ 1 mod 4 a prime: each entry of a symmetric conference matrix as a 2×2 block — Paley's second */
const paleySecond = (q: number): Matrix => {
  const chi = quadratic(q)
  const half = q + 1
  const n = 2 * half
  const out = matrix(n, n)
  for (let i = 0; i < half; i++)
    for (let j = 0; j < half; j++) {
      const c = i === 0 || j === 0 ? 1 : chi[(i - j + q) % q]!
      const block = i === j ? [1, -1, -1, -1] : [c, c, c, -c]
      block.forEach((v, at) => {
        out.data[(2 * i + (at >> 1)) * n + 2 * j + (at & 1)] = v
      })
    }
  return out
}

/** A ⊗ B */
const kron = (a: Matrix, b: Matrix): Matrix => {
  const out = matrix(a.rows * b.rows, a.cols * b.cols)
  for (let i = 0; i < out.rows; i++)
    for (let j = 0; j < out.cols; j++)
      out.data[i * out.cols + j] =
        a.data[Math.floor(i / b.rows) * a.cols + Math.floor(j / b.cols)]! *
        b.data[(i % b.rows) * b.cols + (j % b.cols)]!
  return out
}

const construct = (n: number): Matrix | undefined => {
  if (n === 1) return matrix(1, 1, [1])
  if (n === 2) return matrix(2, 2, [1, 1, 1, -1])
  if (n % 4 !== 0) return undefined
  if (Number.isInteger(Math.log2(n))) return kron(construct(2)!, construct(n / 2)!)
  if (prime(n - 1)) return paleyFirst(n - 1)
  if ((n / 2) % 2 === 0 && (n / 2 - 1) % 4 === 1 && prime(n / 2 - 1)) return paleySecond(n / 2 - 1)
  for (let a = 2; a * a <= n; a++) {
    if (n % a !== 0) continue
    const [left, right] = [construct(a), construct(n / a)]
    if (left && right) return kron(left, right)
  }
  return undefined
}

/**
 * H [n, n] of ±1 with HHᵀ = nI: Sylvester's for powers of two, else Paley's of prime order and Kronecker products
 * of smaller ones. Throws for an n that these do not reach (and where no such H exists: n > 2, 4 ∤ n).
 */
export const hadamard = (n: number): Matrix => {
  const out = Number.isInteger(n) && n > 0 ? construct(n) : undefined
  if (out) return out
  throw new Error(
    `hadamard: no matrix of order ${n} is known here; use blocks whose order is a power of two, or 12, 20, 24, 28, 36 times one`,
  )
}

export interface FwhtOptions {
  /** each run of `size` numbers is transformed by itself; the whole array by default */
  size?: number
  /** divides by √size, so that the transform is its own inverse */
  orthonormal?: boolean
}

/**
 * Hx without H, in n log n steps, H Sylvester's; x is not changed — Fino & Algazi, IEEE Trans. Computers 25 (1976).
 * Throws where `size` is no power of two or does not divide x's length.
 */
export const fwht = (x: Float64Array, { size = x.length, orthonormal = false }: FwhtOptions = {}): Float64Array => {
  if (!(size > 0) || !Number.isInteger(Math.log2(size)) || x.length % size !== 0)
    throw new Error(`fwht: runs of ${size} in ${x.length} numbers; give a power of two that divides the length, or pad`)
  const out = x.slice()
  for (let h = 1; h < size; h *= 2)
    for (let i = 0; i < out.length; i += 2 * h)
      for (let j = i; j < i + h; j++) {
        const [p, q] = [out[j]!, out[j + h]!]
        out[j] = p + q
        out[j + h] = p - q
      }
  if (orthonormal) {
    const scale = 1 / Math.sqrt(size)
    for (let i = 0; i < out.length; i++) out[i]! *= scale
  }
  return out
}
