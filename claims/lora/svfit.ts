import { lora } from '@weftjs/lora/lora'
import { svfit } from '@weftjs/lora/svfit'
import { type Claim, linears, type Recipe } from '../lab.ts'

/** all singular values: 7,168 numbers, a twentieth of LoRA's; there is no more to be had */
export const recipe: Recipe = linears(svfit({ energy: 1 }))

export const claim: Claim = {
  says: 'Singular values alone do as well as LoRA of rank 8, with a twentieth of its numbers',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) =>
    (await lab.run(linears(lora({ rank: 8 })), { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
