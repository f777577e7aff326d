import { madd } from './lib/math'

/**
 * (a, b) → (a·cos − b·sin, b·cos + a·sin) for the halves of every row of `width`, sin times `sign`; x and y [B, H, T, S]
 * in any layout whose rows are whole: strides in bytes. Tables [.., T, S/2], `tb` bytes from one batch to the next.
 */
export function rotate(
  x: usize,
  cos: usize,
  sin: usize,
  y: usize,
  batch: i32,
  heads: i32,
  times: i32,
  width: i32,
  xb: usize,
  xh: usize,
  xt: usize,
  yb: usize,
  yh: usize,
  yt: usize,
  tb: usize,
  sign: f32,
): void {
  const half = (<usize>width >> 1) << 2
  const wide = half & ~15
  const signs = f32x4.splat(sign)
  for (let n = 0; n < batch; n++) {
    for (let t = 0; t < times; t++) {
      const c = cos + <usize>n * tb + <usize>t * half
      const s = sin + <usize>n * tb + <usize>t * half
      let from = x + <usize>n * xb + <usize>t * xt
      let to = y + <usize>n * yb + <usize>t * yt
      for (let h = 0; h < heads; h++) {
        for (let i: usize = 0; i < wide; i += 16) {
          const a = v128.load(from + i)
          const b = v128.load(from + half + i)
          const ci = v128.load(c + i)
          const si = f32x4.mul(v128.load(s + i), signs)
          v128.store(to + i, f32x4.sub(f32x4.mul(a, ci), f32x4.mul(b, si)))
          v128.store(to + half + i, madd(b, ci, f32x4.mul(a, si)))
        }
        for (let i = wide; i < half; i += 4) {
          const a = load<f32>(from + i)
          const b = load<f32>(from + half + i)
          const si = load<f32>(s + i) * sign
          store<f32>(to + i, a * load<f32>(c + i) - b * si)
          store<f32>(to + half + i, b * load<f32>(c + i) + a * si)
        }
        from += xh
        to += yh
      }
    }
  }
}
