import {
  abs,
  div,
  eye,
  matMul,
  max,
  mul,
  neg,
  sub,
  sum,
  type Tensor,
  tensor,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'

const swapped = (x: Tensor): Tensor =>
  transpose(x, [...Array.from({ length: x.rank - 2 }, (_, i) => i), x.rank - 1, x.rank - 2])

const STEPS = 24

/** X ← X·(2I − A·X) from Aᵀ/(‖A‖₁·‖A‖∞), which converges for any A that has an inverse: in these steps up to a condition of some thousands  —  Ben-Israel & Cohen, SIAM J. Numer. Anal. 3 (1966) */
const iterated = (a: Tensor): Tensor => {
  const most = (axis: number): Tensor => max(sum(abs(a), axis, true), [-2, -1], true) // [..., 1, 1]
  let x = div(swapped(a), mul(most(-1), most(-2)))
  const two = mul(2, eye(a.shape.at(-1)!))
  for (let i = 0; i < STEPS; i++) x = matMul(x, sub(two, matMul(a, x)))
  return x
}

/** in double precision with partial pivoting, where numbers can be read at once */
const eliminated = (a: Tensor): Tensor => {
  const n = a.shape.at(-1)!
  const from = a.dataSync()
  const out = new Float32Array(a.size)
  const work = new Float64Array(n * 2 * n)
  const wide = 2 * n
  for (let at = 0; at < a.size; at += n * n) {
    work.fill(0)
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) work[i * wide + j] = from[at + i * n + j]!
      work[i * wide + n + i] = 1
    }
    for (let k = 0; k < n; k++) {
      let p = k
      for (let i = k + 1; i < n; i++) if (Math.abs(work[i * wide + k]!) > Math.abs(work[p * wide + k]!)) p = i
      if (p !== k)
        for (let j = k; j < wide; j++) {
          const held = work[k * wide + j]!
          work[k * wide + j] = work[p * wide + j]!
          work[p * wide + j] = held
        }
      const scale = 1 / work[k * wide + k]!
      for (let j = k; j < wide; j++) work[k * wide + j]! *= scale
      for (let i = 0; i < n; i++) {
        const f = work[i * wide + k]!
        if (i === k || f === 0) continue
        for (let j = k; j < wide; j++) work[i * wide + j]! -= f * work[k * wide + j]!
      }
    }
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) out[at + i * n + j] = work[i * wide + n + j]!
  }
  return tensor(out, a.shape)
}

const kernel = defineKernel<{ a: Tensor }>({
  name: 'Invert',
  plain: ({ a }) => tidy(() => iterated(a)),
  keeps: () => ['y'],
  gradient: ({ dy, saved: { y } }) => {
    const t = swapped(y)
    return { a: neg(matMul(matMul(t, dy), t)) } // −A⁻ᵀ·dX·A⁻ᵀ
  },
  on: { cpu: ({ a }) => eliminated(a), wasm: ({ a }) => eliminated(a) },
})

/** A⁻¹ for each matrix of a [..., n, n], small and well conditioned: Cayley transforms, triangular factors */
export const invert = (a: Tensor): Tensor => {
  if (a.rank < 2 || a.shape.at(-1) !== a.shape.at(-2))
    throw new Error(`invert: [${a.shape}] is not square; give [..., n, n]`)
  return kernel({ a }, {})
}
