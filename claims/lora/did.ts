import { did } from '@weftjs/lora/did'
import { type Claim, LINEARS, linears, type Recipe } from '../lab.ts'

export const recipe: Recipe = linears(did({ dimension: 10_000 }))
const whole: Recipe = {
  name: 'whole linears',
  train: ({ sites }) => sites.filter((s) => s.kind === 'linear' && /^blocks/.test(s.name)).map((s) => s.name),
}

export const claim: Claim = {
  says: `10,000 numbers in a random subspace, a third of a percent of all, fall as far as nine tenths of full tuning (${LINEARS})`,
  metric: 'fall of our loss over that of full tuning, less 0.9',
  margin: async (seed, lab) => {
    const fall = async (recipe: Recipe): Promise<number> => {
      const { curve, loss } = await lab.run(recipe, { seed })
      return curve[0]! - loss
    }
    return (await fall(recipe)) / (await fall(whole)) - 0.9
  },
}
