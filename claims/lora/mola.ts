import { mola } from '@weftjs/lora/mola'
import { type Claim, linears, type Recipe } from '../lab.ts'

/** near LoRA's budget: twice the numbers of rank 1 and a router for each expert */
export const recipe: Recipe = linears(mola({ experts: [2, 4, 6, 8], rank: 1, alpha: 2 }))
const upside: Recipe = linears(mola({ experts: [8, 6, 4, 2], rank: 1, alpha: 2 }))

export const claim: Claim = {
  says: 'As many experts do more in higher layers: 2-4-6-8 before 8-6-4-2',
  metric: 'loss of 8-6-4-2 less that of 2-4-6-8',
  margin: async (seed, lab) => (await lab.run(upside, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
