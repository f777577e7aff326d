import { shira } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** as many numbers as LoRA at rank 8 */
export const recipe: Recipe = linears(shira({ rank: 8 }))

export const claim: Claim = {
  says: 'As many single entries of W, in random places, do better than LoRA',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
