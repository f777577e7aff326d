/** n numbers from 0.1 to 1, from both ends and with fused multiply-add, as torch.linspace */
const linspace = (n: number): Float32Array => {
  const start = Math.fround(0.1)
  const step = Math.fround(Math.fround(1 - start) / (n - 1))
  return Float32Array.from({ length: n }, (_, i) => (i < n / 2 ? start + step * i : 1 - step * (n - 1 - i)))
}

/**
 * The dynamic map of some bits: 0, 1, and for each of bits − 1 decades up to 1 the middles of 2^e equal parts of [0.1, 1]
 * with both signs, or of 2^(e+1) without  —  Dettmers, arXiv:1511.04561. In float32 as torch computes it; ascending.
 */
export const dynamicLevels = (bits: number, signed: boolean): Float32Array => {
  const levels = [0, 1]
  for (let e = 0; e < bits - 1; e++) {
    const parts = signed ? 2 ** e : 2 ** (e + 1)
    const edge = linspace(parts + 1)
    for (let i = 0; i < parts; i++) {
      const middle = Math.fround(Math.fround(edge[i]! + edge[i + 1]!) / 2)
      const level = Math.fround(Math.fround(10 ** (e - (bits - 2))) * middle)
      levels.push(level)
      if (signed) levels.push(-level)
    }
  }
  return Float32Array.from(levels).sort()
}
