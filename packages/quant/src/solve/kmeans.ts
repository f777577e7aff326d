export interface KMeansOptions {
  /** centers */
  readonly k: number
  /** length of a point */
  readonly d: number
  /** of each coordinate of each point, [n·d]; all 1 where absent */
  readonly weights?: Float64Array
  readonly iterations?: number
  /** k numbers in [0, 1), by which the first centers are drawn */
  readonly draws: ArrayLike<number>
}
export interface Clusters {
  /** [k·d] */
  readonly centers: Float64Array
  /** nearest center of each point [n] */
  readonly nearest: Int32Array
  /** Σ w(x − c)² */
  readonly loss: number
}

/** Σ w(x − c)² of one point and one center */
const distance = (x: Float64Array, i: number, c: Float64Array, j: number, d: number, w?: Float64Array): number => {
  let sum = 0
  for (let t = 0; t < d; t++) {
    const gap = x[i + t]! - c[j + t]!
    sum += w ? w[i + t]! * gap * gap : gap * gap
  }
  return sum
}

/** first centers: each a point, drawn with a probability that grows with its distance to those before  —  Arthur & Vassilvitskii, k-means++, 2007 */
const seeded = (x: Float64Array, { k, d, weights, draws }: KMeansOptions): Float64Array => {
  const n = x.length / d
  const centers = new Float64Array(k * d)
  const gaps = new Float64Array(n).fill(1)
  for (let j = 0; j < k; j++) {
    const total = gaps.reduce((a, b) => a + b, 0)
    // fewer different points than centers: the rest stay at 0 and are taken by whatever is far later
    if (!(total > 0)) break
    let left = draws[j]! * total
    let i = 0
    for (; i < n - 1 && left >= gaps[i]!; i++) left -= gaps[i]!
    while (i > 0 && !gaps[i]) i--
    centers.set(x.subarray(i * d, i * d + d), j * d)
    for (let p = 0; p < n; p++) {
      const gap = distance(x, p * d, centers, j * d, d, weights)
      gaps[p] = j ? Math.min(gaps[p]!, gap) : gap
    }
  }
  return centers
}

/** nearest center of every point, and how far it is */
const assign = (x: Float64Array, centers: Float64Array, d: number, w?: Float64Array): [Int32Array, Float64Array] => {
  const [n, k] = [x.length / d, centers.length / d]
  const nearest = new Int32Array(n)
  const gaps = new Float64Array(n)
  for (let i = 0, at = 0; i < n; i++, at += d) {
    let [best, least] = [0, Number.POSITIVE_INFINITY]
    for (let j = 0, to = 0; j < k; j++, to += d) {
      let sum = 0
      for (let t = 0; t < d && sum < least; t++) {
        const gap = x[at + t]! - centers[to + t]!
        sum += w ? w[at + t]! * gap * gap : gap * gap
      }
      if (sum < least) [best, least] = [j, sum]
    }
    nearest[i] = best
    gaps[i] = least
  }
  return [nearest, gaps]
}

/** Lloyd's iterations on points x [n·d] under weighted squares; a center that loses its last point goes to the farthest one. */
export const kMeans = (x: Float64Array, options: KMeansOptions): Clusters => {
  const { k, d, weights, iterations = 25 } = options
  const n = x.length / d
  let centers = seeded(x, options)
  let [nearest, gaps] = assign(x, centers, d, weights)
  let loss = gaps.reduce((a, b) => a + b, 0)
  for (let round = 0; round < iterations && loss > 0; round++) {
    const sums = new Float64Array(k * d)
    const mass = new Float64Array(k * d)
    const plain = new Float64Array(k * d)
    const count = new Int32Array(k)
    for (let i = 0; i < n; i++) {
      const to = nearest[i]! * d
      count[nearest[i]!]!++
      for (let t = 0; t < d; t++) {
        const w = weights ? weights[i * d + t]! : 1
        sums[to + t]! += w * x[i * d + t]!
        mass[to + t]! += w
        plain[to + t]! += x[i * d + t]!
      }
    }
    const next = new Float64Array(k * d)
    for (let j = 0; j < k; j++)
      for (let t = j * d; t < j * d + d; t++)
        next[t] = mass[t]! > 0 ? sums[t]! / mass[t]! : count[j] ? plain[t]! / count[j]! : centers[t]!
    for (let j = 0; j < k; j++) {
      if (count[j]) continue
      let far = 0
      for (let i = 1; i < n; i++) if (gaps[i]! > gaps[far]!) far = i
      if (!(gaps[far]! > 0)) break
      gaps[far] = 0
      next.set(x.subarray(far * d, far * d + d), j * d)
    }
    const [to, left] = assign(x, next, d, weights)
    const now = left.reduce((a, b) => a + b, 0)
    if (!(now < loss)) break
    const slow = now > loss * (1 - 1e-4)
    ;[centers, nearest, gaps, loss] = [next, to, left, now]
    if (slow) break
  }
  return { centers, nearest, loss }
}
