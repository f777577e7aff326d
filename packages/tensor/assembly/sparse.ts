/** y[n, to[j]] += v[j]·x[n, from[j]] for rows n of x [N, a] and y [N, b] */
export function multiply(x: usize, v: usize, from: usize, to: usize, y: usize, k: i32, n: i32, a: i32, b: i32): void {
  for (let i = 0; i < n; i++) {
    for (let j: usize = 0; j < <usize>k * 4; j += 4) {
      const at = y + <usize>load<i32>(to + j) * 4
      store<f32>(at, load<f32>(at) + load<f32>(v + j) * load<f32>(x + <usize>load<i32>(from + j) * 4))
    }
    x += <usize>a * 4
    y += <usize>b * 4
  }
}

/** dv[j] += Σₙ dy[n, rows[j]]·x[n, columns[j]] for dy [N, out], x [N, in] */
export function slope(
  dy: usize,
  x: usize,
  rows: usize,
  columns: usize,
  dv: usize,
  k: i32,
  n: i32,
  out: i32,
  input: i32,
): void {
  for (let i = 0; i < n; i++) {
    for (let j: usize = 0; j < <usize>k * 4; j += 4)
      store<f32>(
        dv + j,
        load<f32>(dv + j) +
          load<f32>(dy + <usize>load<i32>(rows + j) * 4) * load<f32>(x + <usize>load<i32>(columns + j) * 4),
      )
    dy += <usize>out * 4
    x += <usize>input * 4
  }
}

/** w[rows[j], columns[j]] += v[j] for w [?, in] */
export function add(w: usize, v: usize, rows: usize, columns: usize, k: i32, input: i32): void {
  for (let j: usize = 0; j < <usize>k * 4; j += 4) {
    const at = w + (<usize>load<i32>(rows + j) * input + load<i32>(columns + j)) * 4
    store<f32>(at, load<f32>(at) + load<f32>(v + j))
  }
}

/** y[j] = w[rows[j], columns[j]] */
export function take(w: usize, rows: usize, columns: usize, y: usize, k: i32, input: i32): void {
  for (let j: usize = 0; j < <usize>k * 4; j += 4)
    store<f32>(y + j, load<f32>(w + (<usize>load<i32>(rows + j) * input + load<i32>(columns + j)) * 4))
}

/** the first j whose row or column is not there, else −1 */
export function wrong(rows: usize, columns: usize, k: i32, out: i32, input: i32): i32 {
  for (let j = 0; j < k; j++) {
    const row = load<i32>(rows + <usize>j * 4)
    const column = load<i32>(columns + <usize>j * 4)
    if (row < 0 || row >= out || column < 0 || column >= input) return j
  }
  return -1
}
