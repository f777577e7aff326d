import { lora } from '@weftjs/lora'
import { adamw, apart, chain, clipByGlobalNorm, ist } from '@weftjs/optim'
import { backprop } from '@weftjs/tensor'
import { type Claim, LINEARS, type Recipe } from '../lab.ts'

const of = (name: string, mu: number): Recipe => ({
  name,
  attachments: () => [{ adapter: lora({ rank: 8 }), at: LINEARS }],
  transform: (lr) => chain(clipByGlobalNorm(1), apart(adamw({ lr, weightDecay: 0 }))),
  estimate: (_, { rng }) => ist({ rng: rng.fork('ist'), every: 2, mu })(backprop),
})
/**
 * One of four layers at a step. The rewards exp(−loss) of a language model are near 0.03 and differ by thousandths: with the
 * paper's rate of 10, made for thousands of steps, no score would move within 40.
 */
export const recipe: Recipe = of('ist 1000', 1000)
const uniform = of('ist uniform', 0)

export const claim: Claim = {
  says: 'Layers that are drawn by importance do better than layers drawn at random',
  metric: 'loss of uniform draws less ours',
  margin: async (seed, lab) => (await lab.run(uniform, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
