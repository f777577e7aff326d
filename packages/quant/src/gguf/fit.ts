import { f, nearest, TENTH, TINY, within } from './numbers.ts'

/**
 * Scales of groups of numbers, as ggml's quantizers search for them, to the last bit: sums go from the first number to the
 * last, in float32.
 */

/** where the largest magnitude is; -1 where all are (nearly) zero */
export const peakOf = (x: Float32Array, from: number, n: number, tiny: number = TINY): number => {
  let [size, at] = [0, -1]
  for (let i = from; i < from + n; i++) {
    const a = Math.abs(x[i]!)
    if (a > size) [size, at] = [a, i]
  }
  return size < tiny ? -1 : at
}

const STEPS = [0, -9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
/**
 * d of x ≈ d·(code − most), codes 0 ... 2·most − 1: of 19 steps around −most/peak the one of the greatest
 * (Σ w·x·l)²/Σ w·l², and d = Σ w·x·l/Σ w·l².
 */
export const fitScale = (
  x: Float32Array,
  from: number,
  n: number,
  most: number,
  weights: Float32Array,
  codes: Uint8Array,
  to: number,
): number => {
  const at = peakOf(x, from, n)
  if (at < 0) {
    codes.fill(0, to, to + n)
    return 0
  }
  let [scale, best, chosen] = [0, 0, 0]
  for (const step of STEPS) {
    const inverse = f(-f(most + f(TENTH * step)) / x[at]!)
    let [xl, ll] = [0, 0]
    for (let i = 0; i < n; i++) {
      const v = x[from + i]!
      const l = within(-most, most - 1, f(inverse * v))
      const w = weights[i]!
      xl = f(xl + f(f(w * v) * l))
      ll = f(ll + f(f(w * l) * l))
    }
    if (step === 0 || (ll > 0 && f(xl * xl) > f(best * ll))) {
      scale = ll ? f(xl / ll) : 0
      best = f(scale * xl)
      chosen = inverse
    }
  }
  for (let i = 0; i < n; i++) codes[to + i] = most + within(-most, most - 1, f(chosen * x[from + i]!))
  return scale
}

/** Q3_K's d of x ≈ d·(code − 4): single codes are moved as long as (Σ w·x·l)²/Σ w·l² grows, w = x² */
export const fitByMoves = (x: Float32Array, from: number, n: number, codes: Uint8Array, to: number): number => {
  const at = peakOf(x, from, n)
  if (at < 0) {
    codes.fill(0, to, to + n)
    return 0
  }
  const inverse = f(-4 / x[at]!)
  const level = new Int8Array(n)
  let [xl, ll] = [0, 0]
  for (let i = 0; i < n; i++) {
    const v = x[from + i]!
    const l = within(-4, 3, f(inverse * v))
    const w = f(v * v)
    level[i] = l
    xl = f(xl + f(f(w * v) * l))
    ll = f(ll + f(f(w * l) * l))
  }
  for (let sweep = 0, moved = true; sweep < 5 && moved; sweep++) {
    moved = false
    for (let i = 0; i < n; i++) {
      const v = x[from + i]!
      const w = f(v * v)
      const l = level[i]!
      let a = f(xl - f(f(w * v) * l))
      if (!(a > 0)) continue
      let b = f(ll - f(f(w * l) * l))
      const other = within(-4, 3, f(f(v * b) / a))
      if (other === l) continue
      a = f(a + f(f(w * v) * other))
      b = f(b + f(f(w * other) * other))
      if (b > 0 && f(f(a * a) * ll) > f(f(xl * xl) * b)) {
        level[i] = other
        xl = a
        ll = b
        moved = true
      }
    }
  }
  for (let i = 0; i < n; i++) codes[to + i] = level[i]! + 4
  return ll > 0 ? f(xl / ll) : 0
}

export interface MinSearch {
  /** codes are 0 ... most */
  readonly most: number
  /** tries are of (start + delta·i + most)/(max − min) for i = 0 ... steps */
  readonly start: number
  readonly delta: number
  readonly steps: number
  /** Σ w·|error| in place of Σ w·error² */
  readonly absolute?: boolean
}
const trial = new Uint8Array(32)
/** d and m ≥ 0 of x ≈ d·code − m by weighted least squares for each try; d is given back, m goes to mins[place] */
export const fitMin = (
  x: Float32Array,
  from: number,
  n: number,
  { most, start, delta, steps, absolute = false }: MinSearch,
  weights: Float32Array,
  codes: Uint8Array,
  to: number,
  mins: Float32Array,
  place: number,
): number => {
  let [min, max, w1, wx] = [x[from]!, x[from]!, 0, 0]
  for (let i = 0; i < n; i++) {
    const v = x[from + i]!
    if (v < min) min = v
    if (v > max) max = v
    w1 = f(w1 + weights[i]!)
    wx = f(wx + f(weights[i]! * v))
  }
  if (min > 0) min = 0
  if (max === min) {
    codes.fill(0, to, to + n)
    mins[place] = -min
    return 0
  }
  const error = (list: Uint8Array, at: number, scale: number, least: number): number => {
    let sum = 0
    for (let i = 0; i < n; i++) {
      const gap = f(f(f(scale * list[at + i]!) + least) - x[from + i]!)
      sum = f(sum + f(weights[i]! * (absolute ? Math.abs(gap) : f(gap * gap))))
    }
    return sum
  }
  const first = f(most / f(max - min))
  for (let i = 0; i < n; i++) codes[to + i] = within(0, most, f(first * f(x[from + i]! - min)))
  let scale = f(1 / first)
  let best = error(codes, to, scale, min)
  for (let s = 0; s <= steps; s++) {
    const inverse = f(f(f(f(start) + f(f(delta) * s)) + most) / f(max - min))
    let [l1, ll, xl] = [0, 0, 0]
    for (let i = 0; i < n; i++) {
      const v = x[from + i]!
      const l = within(0, most, f(inverse * f(v - min)))
      trial[i] = l
      const wl = f(weights[i]! * l)
      l1 = f(l1 + wl)
      ll = f(ll + f(wl * l))
      xl = f(xl + f(wl * v))
    }
    const determinant = f(f(w1 * ll) - f(l1 * l1))
    if (!(determinant > 0)) continue
    let d = f(f(f(w1 * xl) - f(wx * l1)) / determinant)
    let m = f(f(f(ll * wx) - f(l1 * xl)) / determinant)
    if (m > 0) {
      m = 0
      d = f(xl / ll)
    }
    const now = error(trial, 0, d, m)
    if (now < best) {
      for (let i = 0; i < n; i++) codes[to + i] = trial[i]!
      best = now
      scale = d
      min = m
    }
  }
  mins[place] = -min
  return scale
}

/** d of x ≈ d·code for x ≥ 0 (scales of groups), codes 0 ... most: the best of 9 steps, then single codes are moved */
export const fitPositive = (x: Float32Array, most: number, codes: Uint8Array, weights: Float32Array): number => {
  const n = x.length
  let max = 0
  for (const v of x) max = Math.max(max, v)
  if (max < TINY) {
    codes.fill(0)
    return 0
  }
  const code = (inverse: number, v: number): number => within(0, most, f(inverse * v))
  const error = (inverse: number): number => {
    const scale = f(1 / inverse)
    let sum = 0
    for (let i = 0; i < n; i++) {
      const gap = f(x[i]! - f(scale * code(inverse, x[i]!)))
      sum = f(sum + f(f(weights[i]! * gap) * gap))
    }
    return sum
  }
  let chosen = f(most / max)
  let least = error(chosen)
  for (let step = -4; step <= 4; step++) {
    if (step === 0) continue
    const inverse = f(f(f(TENTH * step) + most) / max)
    const now = error(inverse)
    if (now < least) [least, chosen] = [now, inverse]
  }
  let [xl, ll] = [0, 0]
  for (let i = 0; i < n; i++) {
    const l = code(chosen, x[i]!)
    codes[i] = l
    const w = weights[i]!
    xl = f(xl + f(f(w * x[i]!) * l))
    ll = f(ll + f(f(w * l) * l))
  }
  for (let sweep = 0, moved = true; sweep < 5 && moved; sweep++) {
    moved = false
    for (let i = 0; i < n; i++) {
      const [v, w, l] = [x[i]!, weights[i]!, codes[i]!]
      let a = f(xl - f(f(w * v) * l))
      let b = f(ll - f(f(w * l) * l))
      if (!(a > 0 && b > 0)) continue
      const other = Math.max(0, Math.min(most, nearest(f(f(v * b) / a))))
      if (other === l) continue
      a = f(a + f(f(w * v) * other))
      b = f(b + f(f(w * other) * other))
      if (f(f(a * a) * ll) > f(f(xl * xl) * b)) {
        codes[i] = other
        xl = a
        ll = b
        moved = true
      }
    }
  }
  return ll > 0 ? f(xl / ll) : 0
}

/** wᵢ = importance of the column · √(σ² + x²), as ggml has it for an importance matrix */
export const weigh = (
  x: Float32Array,
  from: number,
  n: number,
  columns: Float32Array,
  at: number,
  power: number,
  weights: Float32Array,
): void => {
  for (let i = 0; i < n; i++) {
    const v = x[from + i]!
    weights[i] = f(columns[at + i]! * f(Math.sqrt(f(power + f(v * v)))))
  }
}
