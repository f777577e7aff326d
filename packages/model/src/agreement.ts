import type { Batch, Scalar, Tensor } from '@weftjs/spec'
import { add, mul, reshape, softmax, sub, sum, tensor2d, untaped } from '@weftjs/tensor'
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
    return reshape(logits, [-1, logits.shape.at(-1)!]) // [N, V]
  }
  const shares = tensor2d(
    Float32Array.from(batch.targets, (t) => (t >= 0 ? 1 / counted : 0)),
    [batch.targets.length, 1],
  )
  const [x, y] = [scores(first), scores(second)]
  // KL(p‖q) + KL(q‖p) = Σ (p − q)·(x − y), as norms of rows fall out; and with p − q held constant that has its gradient
  const held = untaped(() => mul(sub(softmax(x), softmax(y)), shares)) // [N, V]
  const apart = sum(mul(held, sub(x, y)))
  return add(nextToken(first, batch), mul(apart, weight / 2)) as Scalar
}
