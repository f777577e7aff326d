import { lora } from '@weftjs/lora/lora'
import { svfit } from '@weftjs/lora/svfit'
import { type Claim, linears, type Recipe } from '../lab.ts'

/** all singular values: 6,143 numbers; there is no more to be had */
export const recipe: Recipe = linears(svfit({ energy: 1 }))

export const claim: Claim = {
  says: 'Singular values alone do as well as LoRA of rank 8, with a twenty-third of its numbers',
  metric: 'loss of LoRA less ours',
  note: 'forty steps are few for singular values, each of which has to move far; the paper trains for thousands',
  margin: async (seed, lab) =>
    (await lab.run(linears(lora({ rank: 8 })), { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
