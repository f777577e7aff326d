import { f } from './numbers.ts'

/** MXFP4 and NVFP4: 4-bit floats of one bit of fraction, doubled so that they are whole numbers; by code. */
const HALF = [0, 1, 2, 3, 4, 6, 8, 12]
export const E2M1: readonly number[] = [...HALF, ...HALF.map((v) => (v ? -v : 0))]

/** the first code whose level times d is nearest */
export const nearestE2m1 = (x: number, d: number): number => {
  let [best, least] = [0, Number.POSITIVE_INFINITY]
  for (let c = 0; c < 16; c++) {
    const gap = Math.abs(f(f(E2M1[c]! * d) - x))
    if (gap < least) [best, least] = [c, gap]
  }
  return best
}

export const E2M1_HEAD: string = `const E2M1 = array<f32, 16>(${E2M1.map((v) => v.toFixed(1)).join(', ')});
fn smallOf(c: vec4u) -> vec4f { return vec4f(E2M1[c.x], E2M1[c.y], E2M1[c.z], E2M1[c.w]); }`
