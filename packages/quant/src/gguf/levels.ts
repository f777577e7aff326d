import { peakOf, weigh } from './fit.ts'
import { f, squares } from './numbers.ts'
import type { Importance } from './types.ts'

/** IQ4_NL and IQ4_XS: one of 16 levels that lie closer together near zero, times a scale. */

// biome-ignore format: a table, by code
export const LEVELS: readonly number[] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
/** the code whose level is nearest; of two as near, the upper */
export const nearestLevel = (v: number): number => {
  const twice = f(v + v)
  let code = 0
  for (let step = 8; step > 0; step >>= 1) if (twice >= LEVELS[code + step - 1]! + LEVELS[code + step]!) code += step
  return code
}

const weights = new Float32Array(32)
/** d of x ≈ d·level for 32 numbers: of 16 tries the one of the greatest (Σ w·x·level)²/Σ w·level² */
export const fitLevels = (
  x: Float32Array,
  from: number,
  { power, importance }: { power: number; importance: Importance | undefined },
  column: number,
): number => {
  if (importance) weigh(x, from, 32, importance.columns, column, power, weights)
  else for (let i = 0; i < 32; i++) weights[i] = x[from + i]! * x[from + i]!
  const at = peakOf(x, from, 32)
  if (at < 0) return 0
  let [scale, best] = [0, 0]
  for (let t = -8; t <= 7; t++) {
    const inverse = t < -7 ? f(1 / f(-x[at]! / LEVELS[0]!)) : f((t + LEVELS[0]!) / x[at]!)
    let [ql, qq] = [0, 0]
    for (let i = 0; i < 32; i++) {
      const v = x[from + i]!
      const q = LEVELS[nearestLevel(f(inverse * v))]!
      const w = f(weights[i]! * q)
      ql = f(ql + f(w * v))
      qq = f(qq + f(w * q))
    }
    if (t < -7 || (qq > 0 && f(ql * ql) > f(best * qq))) {
      scale = qq > 0 ? f(ql / qq) : 0
      best = f(scale * ql)
    }
  }
  return scale
}

/** 2·mean x² of a block */
export const twicePower = (x: Float32Array, from: number, n: number): number => f(2 * squares(x, from, n)) / n

export const LEVELS_HEAD: string = `const LEVELS = array<f32, 16>(${LEVELS.map((v) => v.toFixed(1)).join(', ')});
fn levelsOf(c: vec4u) -> vec4f { return vec4f(LEVELS[c.x], LEVELS[c.y], LEVELS[c.z], LEVELS[c.w]); }`
