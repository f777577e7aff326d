import { tidy } from '@weftjs/tensor'
import { onHeap } from './kmeans-heap.ts'

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

/** What is asked of points [n·d]. */
export interface Points {
  /** squares of distances to the centers so far [n] */
  gaps(): Float64Array
  /** one center more */
  nearer(center: Float64Array): void
  /** nearest center of every point, the first of equals, and how far it is */
  assign(centers: Float64Array): [Int32Array, Float64Array]
}

const plain = (x: Float64Array, d: number, w: Float64Array | undefined): Points => {
  const n = x.length / d
  const found = new Float64Array(n).fill(Number.POSITIVE_INFINITY)
  return {
    gaps: () => found,
    nearer: (center) => {
      for (let i = 0; i < n; i++) found[i] = Math.min(found[i]!, distance(x, i * d, center, 0, d, w))
    },
    assign: (centers) => {
      const nearest = new Int32Array(n)
      const gaps = new Float64Array(n)
      for (let i = 0, at = 0; i < n; i++, at += d) {
        let [best, least] = [0, Number.POSITIVE_INFINITY]
        for (let j = 0, to = 0; to < centers.length; j++, to += d) {
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
    },
  }
}

const sumOf = (x: Float64Array): number => {
  let sum = 0
  for (let i = 0; i < x.length; i++) sum += x[i]!
  return sum
}

/** first centers: each a point, drawn with a probability that grows with its distance to those before  —  Arthur & Vassilvitskii, k-means++, 2007 */
const seeded = (x: Float64Array, points: Points, { k, d, draws }: KMeansOptions): Float64Array => {
  const n = x.length / d
  const centers = new Float64Array(k * d)
  for (let j = 0; j < k; j++) {
    const gaps = points.gaps()
    const gapOf = (i: number): number => (j ? gaps[i]! : 1)
    const total = j ? sumOf(gaps) : n
    // fewer different points than centers: the rest stay at 0 and are taken by whatever is far later
    if (!(total > 0)) break
    let left = draws[j]! * total
    let i = 0
    for (; i < n - 1 && left >= gapOf(i); i++) left -= gapOf(i)
    while (i > 0 && !gapOf(i)) i--
    centers.set(x.subarray(i * d, i * d + d), j * d)
    points.nearer(centers.subarray(j * d, j * d + d))
  }
  return centers
}

/** Σ w·x and Σ w of each coordinate of the points that are nearest to each center, and how many these are */
const totals = (
  x: Float64Array,
  nearest: Int32Array,
  k: number,
  d: number,
  weights?: Float64Array,
): { sums: Float64Array; mass: Float64Array; count: Int32Array } => {
  const sums = new Float64Array(k * d)
  const mass = new Float64Array(k * d)
  const count = new Int32Array(k)
  for (let i = 0, at = 0; i < nearest.length; i++, at += d) {
    const to = nearest[i]! * d
    count[nearest[i]!]!++
    if (weights)
      for (let t = 0; t < d; t++) {
        const w = weights[at + t]!
        sums[to + t]! += w * x[at + t]!
        mass[to + t]! += w
      }
    else
      for (let t = 0; t < d; t++) {
        sums[to + t]! += x[at + t]!
        mass[to + t]! += 1
      }
  }
  return { sums, mass, count }
}

/** Lloyd's iterations on points x [n·d] under weighted squares; a center that loses its last point goes to the farthest one. In threads on the wasm heap where there is one. */
export const kMeans = (x: Float64Array, options: KMeansOptions): Clusters =>
  tidy(() => {
    const { d, weights } = options
    return clusters(x, onHeap(x, d, weights) ?? plain(x, d, weights), options) as never
  }) as unknown as Clusters

const clusters = (x: Float64Array, points: Points, options: KMeansOptions): Clusters => {
  const { k, d, weights, iterations = 25 } = options
  const n = x.length / d
  let centers = seeded(x, points, options)
  let [nearest, gaps] = points.assign(centers)
  let loss = sumOf(gaps)
  for (let round = 0; round < iterations && loss > 0; round++) {
    const { sums, mass, count } = totals(x, nearest, k, d, weights)
    const next = new Float64Array(k * d)
    let light = false // coordinates that no point of a center weighs
    for (let t = 0; t < k * d; t++) {
      if (mass[t]! > 0) next[t] = sums[t]! / mass[t]!
      else light = true
    }
    if (light) {
      const all = totals(x, nearest, k, d).sums
      for (let t = 0; t < k * d; t++) {
        const n = count[Math.floor(t / d)]!
        if (!(mass[t]! > 0)) next[t] = n ? all[t]! / n : centers[t]!
      }
    }
    for (let j = 0; j < k; j++) {
      if (count[j]) continue
      let far = 0
      for (let i = 1; i < n; i++) if (gaps[i]! > gaps[far]!) far = i
      if (!(gaps[far]! > 0)) break
      gaps[far] = 0
      next.set(x.subarray(far * d, far * d + d), j * d)
    }
    const [to, left] = points.assign(next)
    const now = sumOf(left)
    if (!(now < loss)) break
    const slow = now > loss * (1 - 1e-4)
    ;[centers, nearest, gaps, loss] = [next, to, left, now]
    if (slow) break
  }
  return { centers, nearest, loss }
}
