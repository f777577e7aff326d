import { hft } from '@weftjs/optim'
import type { Claim, Recipe } from '../lab.ts'

/** full tuning of a half */
export const recipe: Recipe = {
  name: 'hft',
  train: ({ network, sites, rng }) => hft()(network, sites, rng.fork('hft')),
}
export const whole: Recipe = { name: 'full network', train: () => ['**'] }

export const claim: Claim = {
  says: 'With a half of each block frozen, tuning forgets less',
  metric: 'forgetting of full tuning less ours',
  margin: async (seed, lab) =>
    (await lab.run(whole, { seed })).forgetting - (await lab.run(recipe, { seed })).forgetting,
}
