import { telly } from '@weftjs/optim'
import type { Claim, Recipe } from '../lab.ts'
import { whole } from './hft.ts'

/** full tuning of the last two of four blocks */
export const recipe: Recipe = {
  name: 'telly 2',
  train: ({ network, sites, rng }) => telly({ k: 2 })(network, sites, rng),
}

export const claim: Claim = {
  says: 'With the lower half of the blocks frozen, tuning comes about as far',
  metric: '0.05 less the loss over that of full tuning, less 1',
  margin: async (seed, lab) =>
    0.05 - ((await lab.run(recipe, { seed })).loss / (await lab.run(whole, { seed })).loss - 1),
}
