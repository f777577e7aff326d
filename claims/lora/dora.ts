import { dora } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** LoRA's rank, and a length for each output more */
export const recipe: Recipe = linears(dora({ rank: 8 }))

export const claim: Claim = {
  says: 'Length and direction apart learn better than LoRA at the same rank',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
