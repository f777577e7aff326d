import type { Adapter, Tensor } from '@weftjs/spec'

export interface DiagonalsOptions {
  /** k, pairs of diagonals */
  readonly pairs?: number
  /** s, the size of v at the start */
  readonly scale?: number
}
export interface DiagonalsState extends Record<string, Tensor> {
  /** [k, out] */
  u: Tensor
  /** [k, in] */
  v: Tensor
}

/** W + Σᵢ diag(uᵢ)·W·diag(vᵢ), u zero and v random */
export declare const diagonals: (options?: DiagonalsOptions) => Adapter<DiagonalsState>
