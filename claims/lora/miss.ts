import { miss } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** 15·9,216 = 138,240 numbers, as LoRA at rank 8 */
export const recipe: Recipe = linears(miss({ rank: 15 }))

export const claim: Claim = {
  says: 'Columns that move alike learn more in the same steps than LoRA with as many numbers',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
