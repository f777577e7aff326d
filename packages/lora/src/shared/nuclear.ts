import type { Tensor, Tensor2D } from '@weftjs/spec'
import { addAt, defineKernel, mul, scalar, takeAt, zeros } from '@weftjs/tensor'
import { fromMatrix, multiply, svd, toMatrix, transpose } from '@weftjs/tensor/linalg'

const kernel = defineKernel<{ values: Tensor; places: Tensor }, { shape: readonly [number, number] }>({
  name: 'NuclearNorm',
  plain: ({ values, places }, { shape }) => both(values, places, shape).y,
  ahead: ({ values, places }, { shape }) => both(values, places, shape),
  keeps: () => [],
  gradient: ({ dy, saved }) => ({ values: mul(dy, saved['slope'] as Tensor) }),
})

const both = (
  values: Tensor,
  places: Tensor,
  shape: readonly [number, number],
): { y: Tensor; saved: { slope: Tensor } } => {
  const { u, s, v } = svd(toMatrix(addAt(zeros([...shape]), values, places) as Tensor2D))
  // no direction where there is no singular value
  for (let j = 0; j < s.length; j++)
    if (!(s[j]! > 1e-9 * s[0]!)) for (let i = 0; i < u.rows; i++) u.data[i * u.cols + j] = 0
  const slope = takeAt(fromMatrix(multiply(u, transpose(v))), places) // U·Vᵀ at the places [k]
  return { y: scalar(s.reduce((a, b) => a + b, 0)), saved: { slope } }
}

/** ‖S‖_*, the sum of singular values of S [out, in] with values [k] in its places; its gradient is U·Vᵀ there. One SVD. */
export const nuclearNorm = (values: Tensor, places: Tensor, shape: readonly [number, number]): Tensor =>
  kernel({ values, places }, { shape })
