import type { Tensor, Weight } from '@weftjs/spec'
import { eye, linear, mul, reshape, transpose } from '@weftjs/tensor'
import { mapped } from './mapped.ts'

/**
 * (Σᵢ Aᵢ ⊗ Sᵢ·Tᵢ)ᵀ, a parametrized hypercomplex map, by three small products: a [n, n, n], s [n, in/n, r], t [n, r, out/n]
 * —  Zhang et al., arXiv:2102.08597; the factors of rank r: Mahabadi et al., arXiv:2106.04647
 */
export const hypercomplex = (a: Tensor, s: Tensor, t: Tensor): Weight => {
  const [n, p, q] = a.shape as [number, number, number]
  const [m, u, r] = s.shape as [number, number, number]
  const [k, rank, v] = t.shape as [number, number, number]
  if (n !== m || n !== k || r !== rank || p !== q)
    throw new Error(
      `hypercomplex: a [${a.shape}], s [${s.shape}] and t [${t.shape}] do not fit; see [n, n, n], [n, in/n, r], [n, r, out/n]`,
    )
  return mapped([q * v, p * u], { a, s, t }, (x) => {
    const z = linear(reshape(x, [-1, u]), reshape(transpose(s, [0, 2, 1]), [n * r, u])) // [N·p, n·r]
    // Aᵢ mixes the p parts of x for term i alone: a matrix [q·n·r, p·n·r] that is zero between terms
    const each = reshape(transpose(a, [2, 0, 1]), [q, n, 1, p, 1])
    const mix = mul(each, reshape(eye(n * r), [1, n, r, 1, n * r])) // [q, n, r, p, n·r]
    const y = linear(reshape(z, [-1, p * n * r]), reshape(mix, [q * n * r, p * n * r])) // [N, q·n·r]
    const out = linear(reshape(y, [-1, n * r]), transpose(reshape(t, [n * r, v]))) // [N·q, v]
    return reshape(out, [...x.shape.slice(0, -1), q * v])
  })
}
