import type { Rng } from '@weftjs/spec'

/** the k-th largest of v, which is put out of order */
const kth = (v: Float32Array, k: number): number => {
  let [low, high] = [0, v.length - 1]
  const at = v.length - k
  while (low < high) {
    const pivot = v[(low + high) >> 1]!
    let [i, j] = [low, high]
    while (i <= j) {
      while (v[i]! < pivot) i++
      while (v[j]! > pivot) j--
      if (i <= j) {
        const t = v[i]!
        v[i++] = v[j]!
        v[j--] = t
      }
    }
    if (at <= j) high = j
    else if (at >= i) low = i
    else break
  }
  return v[at]!
}

/** Where the k largest of the numbers stand, in order of place; of equal ones the first. NaN counts as the least. */
export const largestOf = (values: ArrayLike<number>, k: number): Int32Array => {
  const n = values.length
  if (k <= 0) return new Int32Array(0)
  const scores = Float32Array.from(values, (v) => (Number.isNaN(v) ? Number.NEGATIVE_INFINITY : v))
  if (k >= n) return Int32Array.from({ length: n }, (_, i) => i)
  const least = kth(scores.slice(), k)
  let ties = k
  for (const s of scores) if (s > least) ties--
  const found = new Int32Array(k)
  let count = 0
  for (let i = 0; i < n && count < k; i++) {
    const s = scores[i]!
    if (s > least || (s === least && ties-- > 0)) found[count++] = i
  }
  return found
}

/** k different whole numbers below n, each set of them as likely as any other, in order (Floyd's algorithm). */
export const sampleOf = (rng: Rng, n: number, k: number): Int32Array => {
  if (k > n) throw new Error(`sampleOf: ${k} different numbers below ${n}`)
  const found = new Set<number>()
  const draws = rng.numbers(k)
  for (let i = 0; i < k; i++) {
    const last = n - k + i
    const t = Math.floor(draws[i]! * (last + 1))
    found.add(found.has(t) ? last : t)
  }
  return Int32Array.from(found).sort()
}
