import { bone } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** 16·9,216 = 147,456 numbers, as LoRA at rank 8 */
export const recipe: Recipe = linears(bone({ rank: 16 }))

export const claim: Claim = {
  says: 'Blocks that are turned by W itself learn more in the same steps than LoRA with as many numbers',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
