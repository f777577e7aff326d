import { loldu } from '@weftjs/lora/loldu'
import type { Adapter, Tensor2D } from '@weftjs/spec'
import { mean, mul, sqrt, square } from '@weftjs/tensor'
import { type Claim, linears, type Recipe } from '../lab.ts'

const options = { rank: 128, alpha: 128 } as const
/** 128 pivots of each matrix, as many as the smallest has: 3,584 numbers */
export const recipe: Recipe = linears(loldu(options))

/** the same with normal factors of the same size in place of the matrix's own */
const random = (): Adapter<any> => {
  const inner = loldu(options)
  return {
    ...inner,
    name: 'loldu-random',
    init: (site, ctx) => {
      const start = inner.init(site, ctx)!
      const like = (t: Tensor2D, key: string): Tensor2D =>
        mul(ctx.rng.fork(key).normal([...t.shape]), sqrt(mean(square(t)))) as Tensor2D
      return { ...start, state: { ...start.state, l: like(start.state.l, 'l'), u: like(start.state.u, 'u') } }
    },
  }
}

export const claim: Claim = {
  says: 'The pivots of W itself do better than as many numbers between random factors of the same size',
  metric: 'loss with random factors less ours',
  margin: async (seed, lab) =>
    (await lab.run(linears(random(), 'loldu random 128'), { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
