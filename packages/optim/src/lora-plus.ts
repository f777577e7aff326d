import type { Params, Transform } from '@weftjs/spec'
import type { AdamwOptions } from './adamw.ts'
import { adamw } from './adamw.ts'
import { partition, type Schedule } from './transform.ts'

export interface LoraPlusOptions extends Omit<AdamwOptions, 'decays'> {
  /** η_B/η_A */
  readonly ratio?: number
  /** learning rate of the factors of an embedding */
  readonly embeddingLr?: number | Schedule
}

const times = (lr: number | Schedule, by: number): number | Schedule =>
  typeof lr === 'number' ? lr * by : (step) => lr(step) * by

/** which group a parameter is in: B and every vector learn faster; vectors do not decay */
const groupOf = (name: string, rank: number): 'a' | 'b' | 'vector' | 'embedding' =>
  /^embed\.[^.]+\.[ab]$/.test(name) ? 'embedding' : rank === 1 ? 'vector' : /\.b$/.test(name) ? 'b' : 'a'

/**
 * AdamW in which B, starting at zero, learns `ratio` times as fast as A  —  Hayou et al., arXiv:2402.12354
 * @family lora
 *
 * Groups as in PEFT: a LoRA's `a` with `lr`; its `b`, and all vectors, with ratio·lr; the factors of an embedding with a rate
 * of their own. `make` gives another optimizer for each group.
 */
export const loraPlus = (
  { lr = 1e-4, ratio = 16, embeddingLr = 1e-6, weightDecay = 0, ...rest }: LoraPlusOptions = {},
  make: (options: AdamwOptions) => Transform<any> = adamw,
): Transform<any> => {
  if (!(ratio > 0 && Number.isFinite(ratio))) throw new Error(`loraPlus: ratio must be above 0, found ${ratio}`)
  const groups = {
    a: make({ ...rest, weightDecay, lr }),
    b: make({ ...rest, weightDecay, lr: times(lr, ratio) }),
    vector: make({ ...rest, weightDecay: 0, lr: times(lr, ratio) }),
    embedding: make({ ...rest, weightDecay, lr: embeddingLr }),
  }
  const of = (params: Params): Transform<any> => partition(groups, (name) => groupOf(name, params[name]!.rank))
  return {
    init: (params) => of(params).init(params),
    update: (grads, state, params) => of(params).update(grads, state, params),
  }
}
