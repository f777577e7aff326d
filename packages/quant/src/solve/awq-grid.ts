import { add, clipByValue, div, max, maximum, min, minimum, mul, round, sub, type Tensor } from '@weftjs/tensor'

const MOST = 15

/**
 * Scale and zero point of each stretch of x [..., group] → [..., 1]: s = max(max − min, 1e-5)/15, z = round(−min/s). Zero is
 * always within, which the library takes for granted.
 */
export const stepsOf = (x: Tensor): { scale: Tensor; zero: Tensor } => {
  const low = minimum(min(x, -1, true), 0)
  const high = maximum(max(x, -1, true), 0)
  const scale = div(maximum(sub(high, low), 1e-5), MOST)
  return { scale, zero: clipByValue(sub(0, round(div(low, scale))), 0, MOST) }
}

/** what comes back of x [..., group], with scales in float32 */
export const throughGrid = (x: Tensor): Tensor => {
  const { scale, zero } = stepsOf(x)
  return mul(sub(clipByValue(add(round(div(x, scale)), zero), 0, MOST), zero), scale)
}
