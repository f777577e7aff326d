import { add, matMul, mul, reshape, type Tensor } from '@tensorflow/tfjs-core'
import { engine } from '../engine.ts'
import { kernels } from '../kernel.ts'

/** scale·(op(a)·op(b) + op(c)·op(d)) + onto + bias of matrices: [m, k]·[k, n] + [m, r]·[r, n], [m, n] and [n] */
export interface Product {
  readonly a: Tensor
  readonly b: Tensor
  /** a and c are stored [k, m] */
  readonly transposeA?: boolean
  /** b and d are stored [n, k] */
  readonly transposeB?: boolean
  /** of the products; default 1 */
  readonly scale?: number
  /** c and d, of the same forms as a and b */
  readonly and?: readonly [c: Tensor, d: Tensor] | undefined
  readonly onto?: Tensor | undefined
  readonly bias?: Tensor | undefined
  /** float32 of m·n numbers that the rest is added to in place; it is what is returned */
  readonly into?: Tensor | undefined
}

/** by backend: the whole sum in one pass, or undefined to decline a call */
export const productOn: Record<string, (p: Product) => Tensor | undefined> = {}

const fast = (p: Product): Tensor | undefined => (kernels.plain ? undefined : productOn[engine().backendName]?.(p))

const plain = ({ a, b, transposeA, transposeB, scale = 1, and, onto, bias }: Product): Tensor => {
  const first = matMul(a, b, transposeA, transposeB)
  const both = and ? add(first, matMul(and[0], and[1], transposeA, transposeB)) : first
  const terms = [onto, bias].filter((t) => t !== undefined)
  return terms.reduce((y, t) => add(y, t), scale === 1 ? both : mul(both, scale))
}

/** The sum of products above. For kernels with a gradient of their own: it is not recorded for one. */
export const product = (p: Product): Tensor => fast(p) ?? plain(p)

/** The same as the gradient of an input: added to what its other uses gave, where that can be; else of the input's shape. */
export const productOnto = (p: Product, before: Tensor | undefined, shape: readonly number[]): Tensor =>
  (before && fast({ ...p, into: before })) ?? reshape(product(p), shape as number[])
