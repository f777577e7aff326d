import type { Tensor } from '@weftjs/spec'
import { cast, oneHot, topk, sum as total, untaped } from '@weftjs/tensor'

/** 1 for the k largest of the last axis, 0 for the others; no gradient goes through the choice: [..., n] → [..., n] */
export const best = (t: Tensor, k: number): Tensor =>
  untaped(() => total(oneHot(cast(topk(t, k).indices, 'int32') as never, t.shape.at(-1)!), -2))
