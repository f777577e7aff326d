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

/** of numbers without NaN: the places of the k largest, 0 < k < n */
const placesOf = (scores: Float32Array, n: number, k: number): Int32Array => {
  const least = kth(scores.slice(0, n), k)
  let ties = k
  for (let i = 0; i < n; i++) if (scores[i]! > least) ties--
  const found = new Int32Array(k)
  let count = 0
  for (let i = 0; i < n && count < k; i++) {
    const s = scores[i]!
    if (s > least || (s === least && ties-- > 0)) found[count++] = i
  }
  return found
}

/**
 * Where the k largest of the numbers stand, in order of place; of equal ones the first. NaN counts as the least. Few of many
 * are found in one run, which keeps the best so far and a little more.
 */
export const largestOf = (values: ArrayLike<number>, k: number): Int32Array => {
  const n = values.length
  if (k <= 0) return new Int32Array(0)
  if (k >= n) return Int32Array.from({ length: n }, (_, i) => i)
  const room = Math.min(n, 4 * k + 64)
  const scores = new Float32Array(room)
  const places = new Int32Array(room)
  let count = 0
  let least = Number.NEGATIVE_INFINITY
  let full = false
  const shrink = (): void => {
    const kept = placesOf(scores, count, k)
    least = Number.POSITIVE_INFINITY
    for (let i = 0; i < k; i++) {
      const s = scores[kept[i]!]!
      scores[i] = s
      places[i] = places[kept[i]!]!
      if (s < least) least = s
    }
    count = k
    full = true
  }
  for (let i = 0; i < n; i++) {
    const s = Math.fround(values[i]!)
    if (full && !(s > least)) continue
    if (count === room) {
      shrink()
      if (!(s > least)) continue
    }
    scores[count] = Number.isNaN(s) ? Number.NEGATIVE_INFINITY : s
    places[count++] = i
  }
  if (count > k) shrink()
  return places.slice(0, k)
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
