import {
  add,
  concat,
  defineKernel,
  eye,
  gather,
  invert,
  matMul,
  mul,
  neg,
  reshape,
  sub,
  type Tensor,
  type Tensor3D,
  tensor1d,
  transpose,
  zeros,
} from '@weftjs/tensor'

/** places of the upper triangle of [b, b], row by row */
const upper = (b: number): number[] =>
  Array.from({ length: b }, (_, i) => Array.from({ length: b - i - 1 }, (_, j) => i * b + i + 1 + j)).flat()

const kernel = defineKernel<{ v: Tensor }, { b: number }>({
  name: 'Skew',
  plain: ({ v }, { b }) => {
    const [n, size] = v.shape as [number, number]
    const from = new Int32Array(b * b).fill(2 * size)
    upper(b).forEach((place, k) => {
      from[place] = k
      from[(place % b) * b + Math.floor(place / b)] = size + k
    })
    const all = concat([v, neg(v), zeros([n, 1])], 1) // [n, 2·size + 1]
    return reshape(gather(all, tensor1d(from, 'int32'), 1), [n, b, b])
  },
  keeps: () => [],
  gradient: ({ dy, attrs: { b } }) => ({
    v: gather(reshape(sub(dy, transpose(dy, [0, 2, 1])), [-1, b * b]), tensor1d(upper(b), 'int32'), 1),
  }),
})

/** Q = −Qᵀ from its upper triangle: v [n, b·(b−1)/2] → [n, b, b] */
export const skew = (v: Tensor, b: number): Tensor3D => kernel({ v }, { b }) as Tensor3D

/** (I − Q)(I + Q)⁻¹ = 2(I + Q)⁻¹ − I, a rotation for every skew Q [n, b, b] */
export const cayley = (q: Tensor): Tensor3D => {
  const one = eye(q.shape.at(-1)!)
  return sub(mul(2, invert(add(one, q))), one) as Tensor3D
}

/** (I + Q)(I − Q)⁻¹ ≈ I + 2Q + 2Q² + ... + 2Qᵗ⁻² + Qᵗ⁻¹, near a rotation while Q is small; q [n, b, b] */
export const neumann = (q: Tensor, terms: number): Tensor3D => {
  const one = eye(q.shape.at(-1)!)
  if (terms < 2) return add(mul(q, 0), one) as Tensor3D
  let sum = add(one, mul(2, q))
  if (terms === 2) return sum as Tensor3D
  let power = matMul(q, q)
  sum = add(sum, mul(2, power))
  for (let i = 3; i < terms - 1; i++) {
    power = matMul(power, q)
    sum = add(sum, mul(2, power))
  }
  return add(sum, matMul(power, q)) as Tensor3D
}
