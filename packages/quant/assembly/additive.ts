import { product, SCRATCH } from './lib/product'

/** The search for additive codes and the k-means that it begins with, in float64 and in the order of src/solve. */

/** rows [from, to) of Y [., m] = A [., n]·B [n, m] */
export function multiply(
  a: usize,
  b: usize,
  y: usize,
  n: i32,
  m: i32,
  from: i32,
  to: i32,
  room: usize,
  thread: i32,
): void {
  const wide = (<usize>m) << 3
  const line = (<usize>n) << 3
  const at = y + <usize>from * wide
  memory.fill(at, 0, <usize>(to - from) * wide)
  product(
    a + <usize>from * line,
    line,
    b,
    wide,
    at,
    wide,
    to - from,
    n,
    m,
    false,
    false,
    room + <usize>thread * SCRATCH,
  )
}

/** Σ w(x − c)² of a point and a center, w of ones where its address is 0 */
function far(x: usize, w: usize, c: usize, d: i32): f64 {
  let sum: f64 = 0
  for (const end = x + ((<usize>d) << 3); x < end; x += 8, c += 8) {
    const gap = load<f64>(x) - load<f64>(c)
    if (w) {
      sum += load<f64>(w) * gap * gap
      w += 8
    } else sum += gap * gap
  }
  return sum
}

/** distances of points [from, to) to one center, where they are less than those there are */
export function nearer(x: usize, w: usize, center: usize, d: i32, from: i32, to: i32, gaps: usize): void {
  const size = (<usize>d) << 3
  for (let i = from; i < to; i++) {
    const at = <usize>i * size
    const gap = far(x + at, w ? w + at : 0, center, d)
    const to = gaps + ((<usize>i) << 3)
    store<f64>(to, min(load<f64>(to), gap))
  }
}

function away(v: v128, w: v128, c: usize): v128 {
  const gap = f64x2.sub(v, v128.load(c))
  return f64x2.mul(f64x2.mul(w, gap), gap)
}

/**
 * The nearest of k centers to points [from, to), the first of equals, and how far it is. `centers` [d, k], k a multiple of 8.
 * `nearest` has a guess for each point.
 */
export function assign(
  x: usize,
  w: usize,
  centers: usize,
  d: i32,
  k: i32,
  from: i32,
  to: i32,
  nearest: usize,
  gaps: usize,
): void {
  const size = (<usize>d) << 3
  const line = (<usize>k) << 3
  const ones = f64x2.splat(1)
  for (let i = from; i < to; i++) {
    const at = x + <usize>i * size
    const weight = w ? w + <usize>i * size : 0
    const guess = load<i32>(nearest + ((<usize>i) << 2))
    let best = guess
    let least: f64 = 0
    for (let t: usize = 0; t < size; t += 8) {
      const gap = load<f64>(at + t) - load<f64>(centers + (t >> 3) * line + ((<usize>guess) << 3))
      least += (weight ? load<f64>(weight + t) * gap : gap) * gap
    }
    // NaN is never less: then the first stays
    if (!(least >= 0)) {
      best = 0
      least = Infinity
    }
    for (let j = 0; j < k; j += 8) {
      let p = centers + ((<usize>j) << 3)
      let s0 = f64x2.splat(0)
      let s1 = s0
      let s2 = s0
      let s3 = s0
      let t: usize = 0
      // most are too far by half of their coordinates
      const half = (size >> 1) & ~7
      for (; t < half; t += 8, p += line) {
        const v = v128.load64_splat(at + t)
        const u = weight ? v128.load64_splat(weight + t) : ones
        s0 = f64x2.add(s0, away(v, u, p))
        s1 = f64x2.add(s1, away(v, u, p + 16))
        s2 = f64x2.add(s2, away(v, u, p + 32))
        s3 = f64x2.add(s3, away(v, u, p + 48))
      }
      const bound = f64x2.splat(least)
      if (!v128.any_true(f64x2.le(f64x2.pmin(f64x2.pmin(s0, s1), f64x2.pmin(s2, s3)), bound))) continue
      for (; t < size; t += 8, p += line) {
        const v = v128.load64_splat(at + t)
        const u = weight ? v128.load64_splat(weight + t) : ones
        s0 = f64x2.add(s0, away(v, u, p))
        s1 = f64x2.add(s1, away(v, u, p + 16))
        s2 = f64x2.add(s2, away(v, u, p + 32))
        s3 = f64x2.add(s3, away(v, u, p + 48))
      }
      if (!v128.any_true(f64x2.le(f64x2.pmin(f64x2.pmin(s0, s1), f64x2.pmin(s2, s3)), bound))) continue
      for (let l = 0; l < 8; l++) {
        const pair = l < 2 ? s0 : l < 4 ? s1 : l < 6 ? s2 : s3
        const sum = l & 1 ? f64x2.extract_lane(pair, 1) : f64x2.extract_lane(pair, 0)
        if (sum < least || (sum === least && j + l < best)) {
          least = sum
          best = j + l
        }
      }
    }
    store<i32>(nearest + ((<usize>i) << 2), best)
    store<f64>(gaps + ((<usize>i) << 3), least)
  }
}

// where `search` finds what it works on, in words
const GAP: usize = 0 // W − Ŵ, float64 [guesses, rows, input]
const CODES: usize = 4 // int32 [guesses, heights, columns, codebooks]
const LOSS: usize = 8 // float64 [guesses, heights]
const PULL: usize = 12 // (W − Ŵ)·H at the columns at hand, float64 [guesses, heights, d]
const BOOKS: usize = 16 // float64 [codebooks, 2^bits, d]
const TURNED: usize = 20 // the same [codebooks, d, 2^bits]
const SCALES: usize = 24 // float64 [heights]
const MOMENT: usize = 28 // H [input, input], or 0
const ROOM: usize = 32
const EACH: usize = 36 // bytes of room for each thread
const INPUT: usize = 40
const BOOKS_N: usize = 44
const SIZE: usize = 48 // 2^bits
const GROUP: usize = 52
const TALL: usize = 56
const BEAM: usize = 60
const HEIGHTS: usize = 64

function wordAt(p: usize): usize {
  return <usize>load<u32>(p)
}

/** v·H times a factor for a vector of `tall` rows of a group, added to `to` */
function through(v: usize, factor: f64, local: usize, group: i32, tall: i32, to: usize): void {
  const line = (<usize>group) << 3
  for (let r = 0; r < tall; r++, to += line) {
    let h = local
    for (let a = 0; a < group; a++, v += 8, h += line) {
      const x = factor * load<f64>(v)
      if (x === 0) continue
      const some = f64x2.splat(x)
      let b: usize = 0
      for (; b + 16 <= line; b += 16)
        v128.store(to + b, f64x2.add(v128.load(to + b), f64x2.mul(some, v128.load(h + b))))
      if (b < line) store<f64>(to + b, load<f64>(to + b) + x * load<f64>(h + b))
    }
  }
}

/** vᵀHv of all vectors of all books, two at a time */
function norms(
  turned: usize,
  local: usize,
  books: i32,
  size: i32,
  group: i32,
  tall: i32,
  aimed: usize,
  to: usize,
): void {
  const line = (<usize>size) << 3
  for (let c = 0; c < books; c++, turned += <usize>(group * tall) * line)
    for (let i: usize = 0; i < line; i += 16, to += 16) {
      let sum = f64x2.splat(0)
      let v = turned + i
      for (let r = 0; r < tall; r++, v += <usize>group * line) {
        for (let b = 0; b < group; b++) {
          let s = f64x2.splat(0)
          for (let a = 0; a < group; a++)
            s = f64x2.add(
              s,
              f64x2.mul(v128.load(v + <usize>a * line), v128.load64_splat(local + ((<usize>(a * group + b)) << 3))),
            )
          v128.store(aimed + ((<usize>b) << 4), s)
        }
        for (let b = 0; b < group; b++)
          sum = f64x2.add(sum, f64x2.mul(v128.load(aimed + ((<usize>b) << 4)), v128.load(v + <usize>b * line)))
      }
      v128.store(to, sum)
    }
}

/** from − 2s·⟨aimed, vector⟩ + s²·norm for all vectors of a book, to `to` */
function gains(turned: usize, aimed: usize, d: i32, size: i32, s: f64, from: f64, norm: usize, to: usize): void {
  const line = (<usize>size) << 3
  const twice = f64x2.splat(2 * s)
  const square = f64x2.splat(s * s)
  const start = f64x2.splat(from)
  let i: usize = 0
  for (; i + 64 <= line; i += 64) {
    let s0 = f64x2.splat(0)
    let s1 = s0
    let s2 = s0
    let s3 = s0
    let v = turned + i
    for (let a = aimed, end = aimed + ((<usize>d) << 3); a < end; a += 8, v += line) {
      const x = v128.load64_splat(a)
      s0 = f64x2.add(s0, f64x2.mul(x, v128.load(v)))
      s1 = f64x2.add(s1, f64x2.mul(x, v128.load(v, 16)))
      s2 = f64x2.add(s2, f64x2.mul(x, v128.load(v, 32)))
      s3 = f64x2.add(s3, f64x2.mul(x, v128.load(v, 48)))
    }
    v128.store(to + i, f64x2.add(f64x2.sub(start, f64x2.mul(twice, s0)), f64x2.mul(square, v128.load(norm + i))))
    v128.store(
      to + i,
      f64x2.add(f64x2.sub(start, f64x2.mul(twice, s1)), f64x2.mul(square, v128.load(norm + i, 16))),
      16,
    )
    v128.store(
      to + i,
      f64x2.add(f64x2.sub(start, f64x2.mul(twice, s2)), f64x2.mul(square, v128.load(norm + i, 32))),
      32,
    )
    v128.store(
      to + i,
      f64x2.add(f64x2.sub(start, f64x2.mul(twice, s3)), f64x2.mul(square, v128.load(norm + i, 48))),
      48,
    )
  }
  for (; i < line; i += 16) {
    let sum = f64x2.splat(0)
    let v = turned + i
    for (let a = aimed, end = aimed + ((<usize>d) << 3); a < end; a += 8, v += line)
      sum = f64x2.add(sum, f64x2.mul(v128.load64_splat(a), v128.load(v)))
    v128.store(to + i, f64x2.add(f64x2.sub(start, f64x2.mul(twice, sum)), f64x2.mul(square, v128.load(norm + i))))
  }
}

/** a number among the `most` least so far, of which there are n; how many there are then. Of equals the first comes first. */
function put(value: f64, id: i32, values: usize, ids: usize, n: i32, most: i32): i32 {
  if (n === most && !(value < load<f64>(values + ((<usize>(most - 1)) << 3)))) return n
  let at = n < most ? n : most - 1
  for (; at > 0 && value < load<f64>(values + ((<usize>(at - 1)) << 3)); at--) {
    store<f64>(values + ((<usize>at) << 3), load<f64>(values + ((<usize>(at - 1)) << 3)))
    store<i32>(ids + ((<usize>at) << 2), load<i32>(ids + ((<usize>(at - 1)) << 2)))
  }
  store<f64>(values + ((<usize>at) << 3), value)
  store<i32>(ids + ((<usize>at) << 2), id)
  return min(n + 1, most)
}

/** row groups [from, to): the codes of all columns, one after the other. Guesses lie in two sets of `beam`, which take turns. */
export function search(p: usize, from: i32, to: i32, thread: i32): void {
  const input = load<i32>(p + INPUT)
  const books = load<i32>(p + BOOKS_N)
  const size = load<i32>(p + SIZE)
  const group = load<i32>(p + GROUP)
  const tall = load<i32>(p + TALL)
  const beam = load<i32>(p + BEAM)
  const heights = load<i32>(p + HEIGHTS)
  const moment = wordAt(p + MOMENT)
  const vectors = wordAt(p + BOOKS)
  const turned = wordAt(p + TURNED)
  const columns = input / group
  const d = group * tall
  const vector = (<usize>d) << 3
  const line = (<usize>input) << 3
  // of a row group, and of all of a guess
  const gapOf = <usize>tall * line
  const codesOf = (<usize>(columns * books)) << 2
  const gaps = <usize>heights * gapOf
  const codes = <usize>heights * codesOf
  const losses = (<usize>heights) << 3
  const pulls = <usize>heights * vector

  const scratch = wordAt(p + ROOM) + <usize>thread * wordAt(p + EACH)
  const local = scratch + SCRATCH
  const aimed = local + ((<usize>(group * group)) << 3)
  const pairs = aimed + vector
  const norm = pairs + ((<usize>group) << 4)
  const value = norm + ((<usize>(books * size)) << 3)
  const values = value + ((<usize>size) << 3)
  const ids = values + ((<usize>beam) << 3)

  let live = 1
  let set = 0
  for (let j = 0; j < columns; j++) {
    const start = (<usize>(j * group)) << 3
    for (let a = 0; a < group; a++)
      for (let b = 0; b < group; b++)
        store<f64>(
          local + ((<usize>(a * group + b)) << 3),
          moment ? load<f64>(moment + <usize>(j * group + a) * line + start + ((<usize>b) << 3)) : a === b ? 1 : 0,
        )
    norms(turned, local, books, size, group, tall, pairs, norm)
    for (let g = set; g < set + live; g++) {
      const gap = wordAt(p + GAP) + <usize>g * gaps + <usize>from * gapOf
      const pull = wordAt(p + PULL) + <usize>g * pulls + <usize>from * vector
      const wide = (<usize>group) << 3
      const rows = (to - from) * tall
      if (moment) {
        memory.fill(pull, 0, <usize>(to - from) * vector)
        product(gap, line, moment + start, line, pull, wide, rows, input, group, false, false, scratch)
      } else for (let r = 0; r < rows; r++) memory.copy(pull + <usize>r * wide, gap + <usize>r * line + start, wide)
    }
    for (let c = 0; c < books; c++) {
      const book = vectors + <usize>(c * size) * vector
      const other = beam > 1 ? beam - set : 0
      let found = 0
      for (let o = from; o < to; o++) {
        const s = load<f64>(wordAt(p + SCALES) + ((<usize>o) << 3))
        const code = <usize>o * codesOf + ((<usize>(j * books + c)) << 2)
        found = 0
        for (let g = 0; g < live; g++) {
          const slot = <usize>(set + g)
          const old = load<i32>(wordAt(p + CODES) + slot * codes + code)
          const loss = load<f64>(wordAt(p + LOSS) + slot * losses + ((<usize>o) << 3))
          const was = book + <usize>old * vector
          memory.copy(aimed, wordAt(p + PULL) + slot * pulls + <usize>o * vector, vector)
          through(was, s, local, group, tall, aimed)
          let own: f64 = 0
          for (let t: usize = 0; t < vector; t += 8) own += load<f64>(aimed + t) * load<f64>(was + t)
          const mine = norm + ((<usize>(c * size)) << 3)
          const begin = loss + 2 * s * own - s * s * load<f64>(mine + ((<usize>old) << 3))
          gains(turned + <usize>(c * size) * vector, aimed, d, size, s, begin, mine, value)
          // the code as it is comes first, so that it stays where nothing is better
          found = put(loss, g * size + old, values, ids, found, beam)
          for (let i = 0; i < size; i += 2) {
            const at = value + ((<usize>i) << 3)
            if (found === beam) {
              const worst = v128.load64_splat(values + ((<usize>(beam - 1)) << 3))
              if (!v128.any_true(f64x2.lt(v128.load(at), worst))) continue
            }
            if (i !== old) found = put(load<f64>(at), g * size + i, values, ids, found, beam)
            if (i + 1 !== old) found = put(load<f64>(at, 8), g * size + i + 1, values, ids, found, beam)
          }
        }
        for (let rank = 0; rank < found; rank++) {
          const id = load<i32>(ids + ((<usize>rank) << 2))
          const source = <usize>(set + id / size)
          const slot = <usize>(other + rank)
          const gap = wordAt(p + GAP) + slot * gaps + <usize>o * gapOf
          const pull = wordAt(p + PULL) + slot * pulls + <usize>o * vector
          const at = wordAt(p + CODES) + slot * codes + code
          if (slot !== source) {
            memory.copy(gap, wordAt(p + GAP) + source * gaps + <usize>o * gapOf, gapOf)
            memory.copy(pull, wordAt(p + PULL) + source * pulls + <usize>o * vector, vector)
            memory.copy(
              wordAt(p + CODES) + slot * codes + <usize>o * codesOf,
              wordAt(p + CODES) + source * codes + <usize>o * codesOf,
              codesOf,
            )
          }
          store<f64>(wordAt(p + LOSS) + slot * losses + ((<usize>o) << 3), load<f64>(values + ((<usize>rank) << 3)))
          const old = load<i32>(at)
          const now = id % size
          if (old === now) continue
          store<i32>(at, now)
          const was = book + <usize>old * vector
          const is = book + <usize>now * vector
          for (let r = 0; r < tall; r++)
            for (let b = 0; b < group; b++) {
              const t = (<usize>(r * group + b)) << 3
              const to = gap + <usize>r * line + start + ((<usize>b) << 3)
              store<f64>(to, load<f64>(to) - s * (load<f64>(is + t) - load<f64>(was + t)))
            }
          through(was, s, local, group, tall, pull)
          through(is, -s, local, group, tall, pull)
        }
      }
      live = found
      set = other
    }
    if (!moment) live = 1
  }
}

/** rows [from, to) of W of codes, books and scales, in the order of `rebuilt` */
export function rebuild(
  codes: usize,
  vectors: usize,
  scales: usize,
  w: usize,
  books: i32,
  size: i32,
  group: i32,
  tall: i32,
  input: i32,
  from: i32,
  to: i32,
): void {
  const vector = (<usize>(group * tall)) << 3
  const wide = (<usize>group) << 3
  const columns = input / group
  for (let i = from; i < to; i++) {
    const s = load<f64>(scales + ((<usize>(i / tall)) << 3))
    let code = codes + ((<usize>((i / tall) * columns * books)) << 2)
    const row = vectors + <usize>(i % tall) * wide
    let at = w + ((<usize>i * <usize>input) << 3)
    for (let j = 0; j < columns; j++, at += wide)
      for (let c = 0; c < books; c++, code += 4) {
        const v = row + <usize>(c * size + load<i32>(code)) * vector
        for (let t: usize = 0; t < wide; t += 8) store<f64>(at + t, (c ? load<f64>(at + t) : 0) + s * load<f64>(v + t))
      }
  }
}

/** what book c reads of `rows` rows of V, added to `sums` [books, size, tall, group], in the order of `gathered` */
export function gather(
  codes: usize,
  v: usize,
  scales: usize,
  sums: usize,
  books: i32,
  size: i32,
  group: i32,
  tall: i32,
  input: i32,
  rows: i32,
  c: i32,
): void {
  const vector = (<usize>(group * tall)) << 3
  const wide = (<usize>group) << 3
  const columns = input / group
  for (let i = 0; i < rows; i++) {
    const s = load<f64>(scales + ((<usize>(i / tall)) << 3))
    let code = codes + ((<usize>((i / tall) * columns * books + c)) << 2)
    const row = sums + <usize>(i % tall) * wide + <usize>(c * size) * vector
    for (let j = 0; j < columns; j++, v += wide, code += (<usize>books) << 2) {
      const to = row + <usize>load<i32>(code) * vector
      for (let t: usize = 0; t < wide; t += 8) store<f64>(to + t, load<f64>(to + t) + s * load<f64>(v + t))
    }
  }
}
