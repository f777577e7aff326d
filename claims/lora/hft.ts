import { hft } from '@weftjs/optim'
import type { Claim, Recipe } from '../lab.ts'
import { price } from '../phase-one.ts'

/** full tuning of a half */
export const recipe: Recipe = {
  name: 'hft',
  train: ({ network, sites, rng }) => hft()(network, sites, rng.fork('hft')),
}
export const whole: Recipe = { name: 'full network', train: () => ['**'] }

export const claim: Claim = {
  says: 'With a half of each block frozen, tuning forgets less',
  metric: 'forgetting for a nat of the task: full tuning less ours',
  margin: async (seed, lab) => (await price(lab, whole, seed)) - (await price(lab, recipe, seed)),
}
