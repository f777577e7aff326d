/** Products in float64, added up in the order in which `multiply` of tensor/linalg does: four rows of B at a time. */

/** bytes of scratch that `product` takes */
export const SCRATCH: usize = 8 * 8 * 128
/** columns of A that are worked on together; a multiple of 4, so that the order is that of all together */
const INNER: i32 = 128

/** rows of B [inner, 8 or fewer] side by side in fours of columns; what is missing of them is 0 */
function pack(b: usize, ldb: usize, inner: i32, columns: i32, to: usize): void {
  const half = (<usize>inner) << 5
  for (let k = 0; k < inner; k++, b += ldb, to += 32) {
    if (columns === 8) {
      v128.store(to, v128.load(b))
      v128.store(to, v128.load(b, 16), 16)
      v128.store(to + half, v128.load(b, 32))
      v128.store(to + half, v128.load(b, 48), 16)
    } else {
      for (let j = 0; j < 8; j++)
        store<f64>(
          to + (j > 3 ? half : 0) + ((<usize>(j & 3)) << 3),
          j < columns ? load<f64>(b + ((<usize>j) << 3)) : 0,
        )
    }
  }
}
/** the same of Bᵀ: B has its columns as rows */
function packTransposed(b: usize, ldb: usize, inner: i32, columns: i32, to: usize): void {
  const half = (<usize>inner) << 5
  for (let j = 0; j < 8; j++) {
    const from = b + <usize>j * ldb
    const at = to + (j > 3 ? half : 0) + ((<usize>(j & 3)) << 3)
    for (let k = 0; k < inner; k++)
      store<f64>(at + ((<usize>k) << 5), j < columns ? load<f64>(from + ((<usize>k) << 3)) : 0)
  }
}

function four(x0: usize, p: usize, at: usize): v128 {
  let t = f64x2.mul(v128.load64_splat(x0), v128.load(p + at))
  t = f64x2.add(t, f64x2.mul(v128.load64_splat(x0, 8), v128.load(p + at, 32)))
  t = f64x2.add(t, f64x2.mul(v128.load64_splat(x0, 16), v128.load(p + at, 64)))
  return f64x2.add(t, f64x2.mul(v128.load64_splat(x0, 24), v128.load(p + at, 96)))
}

/** two rows of C, four columns: C ± A·P */
function twoByFour(a: usize, lda: usize, p: usize, inner: i32, c: usize, ldc: usize, minus: bool): void {
  let s0 = v128.load(c)
  let s1 = v128.load(c, 16)
  let s2 = v128.load(c + ldc)
  let s3 = v128.load(c + ldc, 16)
  let b = a + lda
  let k = 0
  if (minus) {
    for (; k + 4 <= inner; k += 4, a += 32, b += 32, p += 128) {
      s0 = f64x2.sub(s0, four(a, p, 0))
      s1 = f64x2.sub(s1, four(a, p, 16))
      s2 = f64x2.sub(s2, four(b, p, 0))
      s3 = f64x2.sub(s3, four(b, p, 16))
    }
    for (; k < inner; k++, a += 8, b += 8, p += 32) {
      s0 = f64x2.sub(s0, f64x2.mul(v128.load64_splat(a), v128.load(p)))
      s1 = f64x2.sub(s1, f64x2.mul(v128.load64_splat(a), v128.load(p, 16)))
      s2 = f64x2.sub(s2, f64x2.mul(v128.load64_splat(b), v128.load(p)))
      s3 = f64x2.sub(s3, f64x2.mul(v128.load64_splat(b), v128.load(p, 16)))
    }
  } else {
    for (; k + 4 <= inner; k += 4, a += 32, b += 32, p += 128) {
      s0 = f64x2.add(s0, four(a, p, 0))
      s1 = f64x2.add(s1, four(a, p, 16))
      s2 = f64x2.add(s2, four(b, p, 0))
      s3 = f64x2.add(s3, four(b, p, 16))
    }
    for (; k < inner; k++, a += 8, b += 8, p += 32) {
      s0 = f64x2.add(s0, f64x2.mul(v128.load64_splat(a), v128.load(p)))
      s1 = f64x2.add(s1, f64x2.mul(v128.load64_splat(a), v128.load(p, 16)))
      s2 = f64x2.add(s2, f64x2.mul(v128.load64_splat(b), v128.load(p)))
      s3 = f64x2.add(s3, f64x2.mul(v128.load64_splat(b), v128.load(p, 16)))
    }
  }
  v128.store(c, s0)
  v128.store(c, s1, 16)
  v128.store(c + ldc, s2)
  v128.store(c + ldc, s3, 16)
}

/** one number of C */
function one(a: usize, p: usize, inner: i32, c: usize, minus: bool): void {
  let s = load<f64>(c)
  let k = 0
  for (; k + 4 <= inner; k += 4, a += 32, p += 128) {
    let t = load<f64>(a) * load<f64>(p)
    t += load<f64>(a, 8) * load<f64>(p, 32)
    t += load<f64>(a, 16) * load<f64>(p, 64)
    t += load<f64>(a, 24) * load<f64>(p, 96)
    s = minus ? s - t : s + t
  }
  for (; k < inner; k++, a += 8, p += 32) {
    const t = load<f64>(a) * load<f64>(p)
    s = minus ? s - t : s + t
  }
  store<f64>(c, s)
}

/**
 * C [rows, columns] ± A [rows, inner]·B, where B is [inner, columns], or [columns, inner] if transposed. Rows lie lda, ldb,
 * ldc bytes apart. C overlaps neither.
 */
export function product(
  a: usize,
  lda: usize,
  b: usize,
  ldb: usize,
  c: usize,
  ldc: usize,
  rows: i32,
  inner: i32,
  columns: i32,
  minus: bool,
  transposed: bool,
  scratch: usize,
): void {
  for (let k = 0; k < inner; k += INNER) {
    const n = min(INNER, inner - k)
    const from = a + ((<usize>k) << 3)
    for (let j = 0; j < columns; j += 8) {
      const wide = min(8, columns - j)
      if (transposed) packTransposed(b + <usize>j * ldb + ((<usize>k) << 3), ldb, n, wide, scratch)
      else pack(b + <usize>k * ldb + ((<usize>j) << 3), ldb, n, wide, scratch)
      for (let h = 0; h < wide; h += 4) {
        const p = scratch + (h ? (<usize>n) << 5 : 0)
        const to = c + ((<usize>(j + h)) << 3)
        const width = min(4, wide - h)
        let i = 0
        if (width === 4)
          for (; i + 2 <= rows; i += 2) twoByFour(from + <usize>i * lda, lda, p, n, to + <usize>i * ldc, ldc, minus)
        for (; i < rows; i++)
          for (let t = 0; t < width; t++)
            one(from + <usize>i * lda, p + ((<usize>t) << 3), n, to + <usize>i * ldc + ((<usize>t) << 3), minus)
      }
    }
  }
}
