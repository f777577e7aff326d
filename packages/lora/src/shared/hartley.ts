import { keep, type Tensor2D, tensor2d, tidy } from '@weftjs/tensor'

const made = new Map<string, Tensor2D>()

/** cas(±2πjk/n) = cos ± sin for j, k < n [n, n]: the Hartley transform, computed once for each size */
export const cas = (n: number, sign: 1 | -1): Tensor2D => {
  const key = `${n}${sign}`
  const found = made.get(key)
  if (found && !found.isDisposed) return found
  const row = Float32Array.from({ length: n }, (_, i) => {
    const angle = (2 * Math.PI * i) / n
    return Math.cos(angle) + sign * Math.sin(angle)
  })
  const data = new Float32Array(n * n)
  for (let j = 0; j < n; j++) for (let k = 0, at = 0; k < n; k++, at = (at + j) % n) data[j * n + k] = row[at]!
  const matrix = tidy(() => keep(tensor2d(data, [n, n])))
  made.set(key, matrix)
  return matrix
}
