/** Copies of elements of 4 bytes between layouts. Strides and sizes are in bytes. */

/** a run of `bytes`, a multiple of 4 */
function copy(from: usize, to: usize, bytes: usize): void {
  if (bytes > 1024) {
    memory.copy(to, from, bytes)
    return
  }
  const wide = bytes & ~15
  for (let b: usize = 0; b < wide; b += 16) v128.store(to + b, v128.load(from + b))
  for (let b = wide; b < bytes; b += 4) store<u32>(to + b, load<u32>(from + b))
}

/** runs of `bytes` in three loops: x + Σ i·xᵢ → y + Σ i·yᵢ */
export function copyRuns(
  x: usize,
  y: usize,
  bytes: usize,
  n0: i32,
  x0: usize,
  y0: usize,
  n1: i32,
  x1: usize,
  y1: usize,
  n2: i32,
  x2: usize,
  y2: usize,
): void {
  for (let i = 0; i < n0; i++) {
    for (let j = 0; j < n1; j++) {
      let from = x + <usize>i * x0 + <usize>j * x1
      let to = y + <usize>i * y0 + <usize>j * y1
      for (let k = 0; k < n2; k++) {
        copy(from, to, bytes)
        from += x2
        to += y2
      }
    }
  }
}

/** four rows of four to four columns: x rows `xr` apart, y rows `yr` apart */
function square(x: usize, xr: usize, y: usize, yr: usize): void {
  const a = v128.load(x)
  const b = v128.load(x + xr)
  const c = v128.load(x + 2 * xr)
  const d = v128.load(x + 3 * xr)
  const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5)
  const cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5)
  const AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7)
  const CD = v128.shuffle<f32>(c, d, 2, 6, 3, 7)
  v128.store(y, v128.shuffle<f64>(ab, cd, 0, 2))
  v128.store(y + yr, v128.shuffle<f64>(ab, cd, 1, 3))
  v128.store(y + 2 * yr, v128.shuffle<f64>(AB, CD, 0, 2))
  v128.store(y + 3 * yr, v128.shuffle<f64>(AB, CD, 1, 3))
}

/** `batch` matrices [rows, columns] → [columns, rows], in strips of 16 rows so that what is written stays in the cache */
export function transpose(x: usize, y: usize, batch: i32, rows: i32, columns: i32): void {
  const xr = (<usize>columns) << 2
  const yr = (<usize>rows) << 2
  for (let n = 0; n < batch; n++) {
    for (let r = 0; r < rows; r += 16) {
      const end = min(r + 16, rows)
      let c = 0
      for (; c + 4 <= columns; c += 4) {
        let i = r
        for (; i + 4 <= end; i += 4) {
          const from = x + <usize>i * xr + ((<usize>c) << 2)
          square(from, xr, y + <usize>c * yr + ((<usize>i) << 2), yr)
        }
        for (; i < end; i++)
          for (let k = c; k < c + 4; k++)
            store<u32>(y + <usize>k * yr + ((<usize>i) << 2), load<u32>(x + <usize>i * xr + ((<usize>k) << 2)))
      }
      for (; c < columns; c++)
        for (let i = r; i < end; i++)
          store<u32>(y + <usize>c * yr + ((<usize>i) << 2), load<u32>(x + <usize>i * xr + ((<usize>c) << 2)))
    }
    x += <usize>rows * xr
    y += <usize>rows * xr
  }
}

/** y = Σ over the middle axis of x [outer, rows, width]: four rows at a time onto y, which stays in the cache */
export function sumRows(x: usize, y: usize, outer: i32, rows: i32, width: i32): void {
  const step = (<usize>width) << 2
  const wide = step & ~15
  for (let n = 0; n < outer; n++) {
    memory.fill(y, 0, step)
    let r = 0
    for (; r + 4 <= rows; r += 4) {
      const b = x + step
      const c = b + step
      const d = c + step
      for (let i: usize = 0; i < wide; i += 16) {
        const first = f32x4.add(v128.load(x + i), v128.load(b + i))
        const second = f32x4.add(v128.load(c + i), v128.load(d + i))
        v128.store(y + i, f32x4.add(v128.load(y + i), f32x4.add(first, second)))
      }
      for (let i = wide; i < step; i += 4)
        store<f32>(
          y + i,
          load<f32>(y + i) + (load<f32>(x + i) + load<f32>(b + i) + (load<f32>(c + i) + load<f32>(d + i))),
        )
      x = d + step
    }
    for (; r < rows; r++) {
      for (let i: usize = 0; i < wide; i += 16) v128.store(y + i, f32x4.add(v128.load(y + i), v128.load(x + i)))
      for (let i = wide; i < step; i += 4) store<f32>(y + i, load<f32>(y + i) + load<f32>(x + i))
      x += step
    }
    y += step
  }
}

/** rows of `bytes` by index: x [outer, rows, ..] → y [outer, n, ..] */
export function gather(x: usize, ids: usize, y: usize, outer: i32, rows: i32, n: i32, bytes: usize): void {
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < n; i++) {
      copy(x + <usize>load<i32>(ids + ((<usize>i) << 2)) * bytes, y, bytes)
      y += bytes
    }
    x += <usize>rows * bytes
  }
}
