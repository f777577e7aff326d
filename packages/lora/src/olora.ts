import type { Adapter, Site } from '@weftjs/spec'
import { fromMatrix, multiply, qr, toMatrix, transpose } from '@weftjs/tensor/linalg'
import { type LoraOptions, type LoraState, lora, loraScale } from './lora.ts'
import { columns, residual } from './shared/residual.ts'
import { mustFit } from './shared/start.ts'

export type OloraOptions = Omit<LoraOptions, 'init' | 'loraBias'>
export type OloraState = LoraState

/** numbers that train at a site: r·(in + out) */
export const trainable = ({ in: n, out }: Site, { rank = 8 }: OloraOptions = {}): number => rank * (n + out)

/**
 * W = W_res + (α/r)·B·A, B = Q[:, :r] and A = R[:r] of W = Q·R: an orthonormal start  —  Büyükakyüz, arXiv:2406.01775
 *
 * As PEFT has it, B·A is taken from W once scaled by α/r. The first r columns of W give Q's, and Qᵀ·W the rows of R.
 */
export const olora = (options: OloraOptions = {}): Adapter<OloraState> => {
  const at = loraScale(options)
  return {
    ...lora(options),
    name: 'olora',
    options: { ...options },
    init: (site) => {
      const { rank, factor } = at(site)
      mustFit(site, rank)
      const w = toMatrix(site.weight!.dense())
      const { q } = qr(columns(w, 0, rank)) // [out, r]
      const state = { a: fromMatrix(multiply(transpose(q), w)), b: fromMatrix(q) } // [r, in], [out, r]
      return { state, base: residual(site.weight!, state, factor) }
    },
  }
}
