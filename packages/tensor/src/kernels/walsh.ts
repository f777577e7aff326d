import { reshape, type Tensor, tensor } from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'
import { matMul } from '../ops.ts'

/** Sylvester's H [n, n]: entry (i, j) is −1 to the number of ones that i and j have in common */
const sylvester = (n: number): Tensor => {
  const out = new Float32Array(n * n)
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      let common = i & j
      let sign = 1
      for (; common; common &= common - 1) sign = -sign
      out[i * n + j] = sign
    }
  return tensor(out, [n, n])
}

const FACTOR = 64

/** H of order n is H₆₄ ⊗ H₆₄ ⊗ ...: one product of small matrices for each */
const byFactors = (x: Tensor): Tensor => {
  const n = x.shape.at(-1)!
  let y = x
  for (let inner = 1; inner < n; ) {
    const f = Math.min(FACTOR, n / inner)
    const h = sylvester(f)
    y = inner === 1 ? matMul(reshape(y, [-1, f]), h) : matMul(h, reshape(y, [-1, f, inner]))
    inner *= f
  }
  return reshape(y, x.shape)
}

/** n·log n steps, where numbers can be read at once */
const butterflies = (x: Tensor): Tensor => {
  const n = x.shape.at(-1)!
  const out = Float32Array.from(x.dataSync())
  for (let h = 1; h < n; h *= 2)
    for (let i = 0; i < out.length; i += 2 * h)
      for (let j = i; j < i + h; j++) {
        const [p, q] = [out[j]!, out[j + h]!]
        out[j] = p + q
        out[j + h] = p - q
      }
  return tensor(out, x.shape)
}

const kernel = defineKernel<{ x: Tensor }>({
  name: 'WalshHadamard',
  plain: ({ x }) => byFactors(x),
  keeps: () => [],
  gradient: ({ dy }) => ({ x: walshHadamard(dy) }), // H is symmetric
  on: { cpu: ({ x }) => butterflies(x) },
})

/** x·H over the last axis, H Sylvester's matrix of ±1, unnormalised: x [..., n] → [..., n], n a power of two  —  Fino & Algazi, IEEE Trans. Computers 25 (1976) */
export const walshHadamard = (x: Tensor): Tensor => {
  const n = x.shape.at(-1) ?? 0
  if (!(n > 0) || !Number.isInteger(Math.log2(n)))
    throw new Error(`walshHadamard: the last axis of [${x.shape}] is no power of two; pad it`)
  return kernel({ x }, {})
}
