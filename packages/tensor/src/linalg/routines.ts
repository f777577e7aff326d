import type { Matrix } from './matrix.ts'

/** Factorizations that a system LAPACK does in place of ours; each gives undefined where it failed, and ours goes on. */
export interface Routines {
  svd?(a: Matrix): { u: Matrix; s: Float64Array; v: Matrix } | undefined
  qr?(a: Matrix): { q: Matrix; r: Matrix } | undefined
  eigh?(a: Matrix): { values: Float64Array; vectors: Matrix } | undefined
  cholesky?(a: Matrix): Matrix | undefined
  lu?(a: Matrix): { packed: Matrix; pivots: Int32Array } | undefined
  multiply?(a: Matrix, b: Matrix): Matrix | undefined
  gram?(a: Matrix, of: 'columns' | 'rows'): Matrix | undefined
}

/** Empty until `useLapack` fills it. */
export const routines: Routines = {}
