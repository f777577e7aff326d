import { ssf } from '@weftjs/lora'
import { type Claim, LINEARS, type Recipe } from '../lab.ts'

const of = (scale: boolean): Recipe => ({
  name: scale ? 'ssf' : 'ssf, shift alone',
  attachments: () => [{ adapter: ssf({ scale }), at: [LINEARS, '**.norm*', 'norm'] }],
})
export const recipe: Recipe = of(true)

export const claim: Claim = {
  says: 'Scaling and shifting features does better than tuning biases alone',
  metric: 'loss with shifts alone less ours',
  margin: async (seed, lab) => (await lab.run(of(false), { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
