import { madd, total } from './lib/math'

/** y = x/√(mean x² + ε)·scale for `rows` rows of `width`; keeps 1/√… of each row in `r` */
export function rmsNorm(x: usize, scale: usize, y: usize, r: usize, rows: i32, width: i32, eps: f32): void {
  const bytes = (<usize>width) << 2
  const wide = bytes & ~15
  for (let row = 0; row < rows; row++) {
    let squares = f32x4.splat(0)
    for (let i: usize = 0; i < wide; i += 16) {
      const v = v128.load(x + i)
      squares = madd(v, v, squares)
    }
    let sum = total(squares)
    for (let i = wide; i < bytes; i += 4) sum += load<f32>(x + i) * load<f32>(x + i)
    const inverse: f32 = 1 / sqrt<f32>(sum / <f32>width + eps)
    store<f32>(r, inverse)
    const factor = f32x4.splat(inverse)
    for (let i: usize = 0; i < wide; i += 16)
      v128.store(y + i, f32x4.mul(f32x4.mul(v128.load(x + i), factor), v128.load(scale + i)))
    for (let i = wide; i < bytes; i += 4) store<f32>(y + i, load<f32>(x + i) * inverse * load<f32>(scale + i))
    x += bytes
    y += bytes
    r += 4
  }
}
