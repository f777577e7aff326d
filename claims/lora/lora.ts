import { lora } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'

export const recipe: Recipe = linears(lora({ rank: 8 }))

/** every weight of the same sites, which is what LoRA stands for */
const whole: Recipe = {
  name: 'full',
  train: ({ sites }) => sites.filter((s) => s.kind === 'linear').map((s) => s.name),
}

export const claim: Claim = {
  says: 'LoRA comes near full tuning of the same matrices with a few percent of the numbers',
  metric: 'share of the loss that full tuning takes off, less 0.8',
  margin: async (seed, lab) => {
    const [low, full, none] = [
      await lab.run(recipe, { seed }),
      await lab.run(whole, { seed }),
      await lab.run(recipe, { seed, rate: 1e-12 }),
    ]
    return (none.loss - low.loss) / (none.loss - full.loss) - 0.8
  },
}
