import { reshape, slice, zeros } from '@weftjs/tensor'
import { scaleColumns, scaleRows, sum } from '@weftjs/weight'

/**
 * W + Σᵢ diag(uᵢ)·W·diag(vᵢ), u zero and v random of a size s: k pairs of diagonals beside a frozen matrix, which is never made anew
 *
 * @param {import('./index.js').DiagonalsOptions} [options]
 * @returns {import('@weftjs/spec').Adapter<import('./index.js').DiagonalsState>}
 */
export const diagonals = ({ pairs = 1, scale = 1 } = {}) => {
  if (!(Number.isInteger(pairs) && pairs >= 1))
    throw new Error(`diagonals: pairs must be a whole number of at least 1, found ${pairs}`)
  return {
    name: 'diagonals',
    options: { pairs, scale },
    init: ({ weight }, { rng }) => {
      const [out, input] = weight.shape
      const state = { u: zeros([pairs, out]), v: rng.normal([pairs, input], scale) } // [k, out], [k, in]
      return { state }
    },
    weight: (base, { u, v }) => {
      const row = (t, i) => reshape(slice(t, [i, 0], [1, t.shape[1]]), [t.shape[1]])
      const added = Array.from({ length: pairs }, (_, i) => scaleRows(row(u, i), scaleColumns(row(v, i), base)))
      return sum(base, ...added)
    },
  }
}
