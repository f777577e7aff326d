/** row index[i] of w → row i of y, of `bytes` each; → the first i whose row is not among the `most`, else −1 */
export function gatherRows(w: usize, index: usize, y: usize, n: i32, bytes: usize, most: i32): i32 {
  for (let i = 0; i < n; i++) {
    const row = load<i32>(index)
    if (row < 0 || row >= most) return i
    if (bytes === 4) store<f32>(y, load<f32>(w + ((<usize>row) << 2)))
    else memory.copy(y, w + <usize>row * bytes, bytes)
    index += 4
    y += bytes
  }
  return -1
}

/** row i of dy is added to row index[i] of dw, in order; all rows are there */
export function addRows(dy: usize, index: usize, dw: usize, n: i32, bytes: usize): void {
  const wide = bytes & ~15
  for (let i = 0; i < n; i++) {
    const to = dw + <usize>load<i32>(index) * bytes
    for (let b: usize = 0; b < wide; b += 16) v128.store(to + b, f32x4.add(v128.load(to + b), v128.load(dy + b)))
    for (let b = wide; b < bytes; b += 4) store<f32>(to + b, load<f32>(to + b) + load<f32>(dy + b))
    index += 4
    dy += bytes
  }
}
