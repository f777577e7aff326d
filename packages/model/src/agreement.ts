import type { Batch, Scalar, Tensor } from '@weftjs/spec'
import { add, exp, logSoftmax, mul, reshape, stopGradient, sub, sum, tensor1d } from '@weftjs/tensor'
import type { Pass } from './attach.ts'
import { nextToken, targetsIn } from './loss.ts'

/**
 * L(p) + λ·½·(KL(p‖q) + KL(q‖p)), p and q from two passes of one batch under different noise  —  Zhang et al., arXiv:2312.02923
 *
 * L is the loss of the first pass. The first argument of each KL is held constant, and both are means over the places
 * that have a target. All logits of both passes are made. With dropout as the noise this is R-Drop; MoSA's noise is the
 * part of its adapters that each pass draws.
 * @family lora
 */
export const agreement = (
  first: Pass,
  second: Pass,
  batch: Pick<Batch, 'targets' | 'shape'>,
  { weight = 1 }: { readonly weight?: number } = {},
): Scalar => {
  const counted = targetsIn(batch)
  const scores = ({ hidden, head }: Pass): Tensor => {
    const logits = head(hidden)
    return logSoftmax(reshape(logits, [-1, logits.shape.at(-1)!])) // [N, V]
  }
  const shares = tensor1d(Float32Array.from(batch.targets, (t) => (t >= 0 ? 1 / counted : 0))) // [N]
  const [p, q] = [scores(first), scores(second)]
  const divergence = (p: Tensor, q: Tensor): Tensor => {
    const held = stopGradient(p)
    return sum(mul(sum(mul(exp(held), sub(held, q)), 1), shares)) // KL(p‖q)
  }
  const apart = add(divergence(p, q), divergence(q, p))
  return add(nextToken(first, batch), mul(apart, weight / 2)) as Scalar
}
