import { product, SCRATCH } from './lib/product'

/** GPTQ in float64: the inverse factor of H, and the columns one after the other. */

// where `block` finds the addresses and sizes of a matrix, in words
const TILE: usize = 0 // rows of W as they are by now, columns in their order, float64 [rows, n]
const FACTOR: usize = 4 // U, float64 [n, n]
const PLACE: usize = 8 // where a column is stored, int32 [n]
const GROUPS: usize = 12 // the group of a column, int32 [n]
const CODES: usize = 16 // bytes [rows, n]
const SCALE: usize = 20 // float32 [rows, groups]
const ZERO: usize = 24 // bytes [rows, groups]
const ERRORS: usize = 28 // float64 [rows, 128]
const ROOM: usize = 32 // scratch of `product` for each thread
const WIDTH: usize = 36
const GROUP: usize = 40
const MOST: usize = 44 // the largest code
const SYMMETRIC: usize = 48
const FITTED: usize = 52 // scales and zeros are there already

function wordAt(p: usize): usize {
  return <usize>load<u32>(p)
}

/** a scale and a zero point for n numbers, as `fitGrid` of src/solve/grid.ts */
function fit(x: usize, n: i32, most: i32, symmetric: bool, scale: usize, zero: usize): void {
  let low: f64 = 0
  let high: f64 = 0
  for (const end = x + ((<usize>n) << 3); x < end; x += 8) {
    const v = load<f64>(x)
    if (v < low) low = v
    else if (v > high) high = v
  }
  let lo = <f64>(<f32>low)
  let hi = <f64>(<f32>high)
  if (lo === 0 && hi === 0) {
    lo = -1
    hi = 1
  }
  if (symmetric) {
    store<f32>(scale, <f32>((2 * max(-lo, hi)) / <f64>most))
    store<u8>(zero, (most + 1) >> 1)
    return
  }
  const s = <f32>(<f64>(<f32>(hi - lo)) / <f64>most)
  store<f32>(scale, s)
  store<u8>(zero, s > 0 ? <u8>nearest<f32>(<f32>(-lo / <f64>s)) : 0)
}

/**
 * Columns [first, last) of rows [from, to): each is rounded, its error made good by the others of the block, and in the end
 * by all columns behind.
 */
export function block(p: usize, first: i32, last: i32, from: i32, to: i32, thread: i32): void {
  const n = load<i32>(p + WIDTH)
  const group = load<i32>(p + GROUP)
  const most = load<i32>(p + MOST)
  const symmetric = load<i32>(p + SYMMETRIC) !== 0
  const fitted = load<i32>(p + FITTED) !== 0
  const u = wordAt(p + FACTOR)
  const place = wordAt(p + PLACE)
  const groupOf = wordAt(p + GROUPS)
  const line = (<usize>n) << 3
  const groups = n / group
  for (let r = from; r < to; r++) {
    const row = wordAt(p + TILE) + <usize>r * line
    const codes = wordAt(p + CODES) + <usize>r * <usize>n
    const scales = wordAt(p + SCALE) + ((<usize>r * <usize>groups) << 2)
    const zeros = wordAt(p + ZERO) + <usize>r * <usize>groups
    const errors = wordAt(p + ERRORS) + ((<usize>r) << 10)
    for (let i = first; i < last; i++) {
      const at = row + ((<usize>i) << 3)
      const k = <usize>load<i32>(groupOf + ((<usize>i) << 2))
      if (!fitted && i % group === 0) fit(at, group, most, symmetric, scales + (k << 2), zeros + k)
      const s = load<f32>(scales + (k << 2))
      const z = <i32>load<u8>(zeros + k)
      const v = load<f64>(at)
      let code = z
      if (s > 0) {
        const c = <f64>nearest<f32>(<f32>v / s) + <f64>z
        code = c > 0 ? (c < <f64>most ? <i32>c : most) : 0
      }
      store<u8>(codes + <usize>load<i32>(place + ((<usize>i) << 2)), <u8>code)
      const factor = u + <usize>i * line + ((<usize>i) << 3)
      const e = (v - <f64>(s * <f32>(code - z))) / load<f64>(factor)
      store<f64>(errors + ((<usize>(i - first)) << 3), e)
      if (e === 0) continue
      let j = at + 8
      let f = factor + 8
      const end = row + ((<usize>last) << 3)
      const error = f64x2.splat(e)
      for (; j + 16 <= end; j += 16, f += 16) v128.store(j, f64x2.sub(v128.load(j), f64x2.mul(error, v128.load(f))))
      if (j < end) store<f64>(j, load<f64>(j) - e * load<f64>(f))
    }
  }
  if (last < n)
    product(
      wordAt(p + ERRORS) + ((<usize>from) << 10),
      1024,
      u + <usize>first * line + ((<usize>last) << 3),
      line,
      wordAt(p + TILE) + <usize>from * line + ((<usize>last) << 3),
      line,
      to - from,
      last - first,
      n - last,
      true,
      false,
      wordAt(p + ROOM) + <usize>thread * SCRATCH,
    )
}

/** L with LLᵀ = A of the block [from, to) of A [n, n] on the diagonal, in place: the pivot that is not positive, or −1 */
export function corner(a: usize, n: i32, from: i32, to: i32): i32 {
  const line = (<usize>n) << 3
  for (let i = from; i < to; i++) {
    const row = a + <usize>i * line
    for (let j = from; j <= i; j++) {
      const other = a + <usize>j * line
      let x = row + ((<usize>from) << 3)
      let y = other + ((<usize>from) << 3)
      let sum: f64 = 0
      for (const end = row + ((<usize>j) << 3); x < end; x += 8, y += 8) sum += load<f64>(x) * load<f64>(y)
      const rest = load<f64>(x) - sum
      if (j < i) store<f64>(x, rest / load<f64>(y))
      else {
        if (!(rest > 0)) return i
        store<f64>(x, sqrt(rest))
      }
    }
  }
  return -1
}

/** rows [first, last) of A below that block: A[:, from:to] → A[:, from:to]·L⁻ᵀ */
export function panel(a: usize, n: i32, from: i32, to: i32, first: i32, last: i32): void {
  const line = (<usize>n) << 3
  for (let i = first; i < last; i++) {
    const row = a + <usize>i * line
    for (let j = from; j < to; j++) {
      const other = a + <usize>j * line
      let x = row + ((<usize>from) << 3)
      let y = other + ((<usize>from) << 3)
      let even = f64x2.splat(0)
      const end = row + ((<usize>j) << 3)
      for (; x + 16 <= end; x += 16, y += 16) even = f64x2.add(even, f64x2.mul(v128.load(x), v128.load(y)))
      let sum = f64x2.extract_lane(even, 0) + f64x2.extract_lane(even, 1)
      if (x < end) {
        sum += load<f64>(x) * load<f64>(y)
        x += 8
        y += 8
      }
      store<f64>(x, (load<f64>(x) - sum) / load<f64>(y))
    }
  }
}

/** rows [first, last) of A, columns [to, last): −= A[:, from:to]·A[to:last, from:to]ᵀ */
export function trail(a: usize, n: i32, from: i32, to: i32, first: i32, last: i32, room: usize, thread: i32): void {
  const line = (<usize>n) << 3
  const start = (<usize>from) << 3
  product(
    a + <usize>first * line + start,
    line,
    a + <usize>to * line + start,
    line,
    a + <usize>first * line + ((<usize>to) << 3),
    line,
    last - first,
    to - from,
    last - to,
    true,
    true,
    room + <usize>thread * SCRATCH,
  )
}

/** L [n, n] lower triangular: X = L⁻¹ of the block [from, to) on the diagonal, in place, with zeros above */
export function cornerInverse(l: usize, n: i32, from: i32, to: i32): void {
  const line = (<usize>n) << 3
  for (let i = from; i < to; i++) {
    const row = l + <usize>i * line
    memory.fill(row + ((<usize>(i + 1)) << 3), 0, (<usize>(to - i - 1)) << 3)
    const pivot = 1 / load<f64>(row + ((<usize>i) << 3))
    // X[i, j] = −(Σ L[i, k]·X[k, j])/L[i, i], j ≤ k < i; from the left, so that L[i, k ≥ j] still stands
    for (let j = from; j < i; j++) {
      let sum: f64 = 0
      for (let k = j; k < i; k++)
        sum += load<f64>(row + ((<usize>k) << 3)) * load<f64>(l + <usize>k * line + ((<usize>j) << 3))
      store<f64>(row + ((<usize>j) << 3), -sum * pivot)
    }
    store<f64>(row + ((<usize>i) << 3), pivot)
  }
}

/**
 * Rows [from, to) of X = L⁻¹, columns [left, right) before `from`: −X[corner]·(L[from:to, left:from]·X[left:from, ...]).
 * `copy` has the rows of L as they were [to − from, n], `sums` room for as many.
 */
export function inverse(
  x: usize,
  n: i32,
  from: i32,
  to: i32,
  left: i32,
  right: i32,
  copy: usize,
  sums: usize,
  room: usize,
  thread: i32,
): void {
  const line = (<usize>n) << 3
  const start = (<usize>left) << 3
  const columns = right - left
  const rows = to - from
  for (let r = 0; r < rows; r++) {
    memory.fill(sums + <usize>r * line + start, 0, (<usize>columns) << 3)
    memory.fill(x + <usize>(from + r) * line + start, 0, (<usize>columns) << 3)
  }
  const scratch = room + <usize>thread * SCRATCH
  product(
    copy + start,
    line,
    x + <usize>left * line + start,
    line,
    sums + start,
    line,
    rows,
    from - left,
    columns,
    false,
    false,
    scratch,
  )
  const corner = x + <usize>from * line + ((<usize>from) << 3)
  product(
    corner,
    line,
    sums + start,
    line,
    x + <usize>from * line + start,
    line,
    rows,
    rows,
    columns,
    true,
    false,
    scratch,
  )
}

/** n float64 numbers the other way round */
export function reverse(x: usize, n: i32): void {
  let y = x + ((<usize>n) << 3) - 8
  for (; x < y; x += 8, y -= 8) {
    const v = load<f64>(x)
    store<f64>(x, load<f64>(y))
    store<f64>(y, v)
  }
}
