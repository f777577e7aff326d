import { gralora } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** 143,360 numbers, an update of rank 16 */
export const recipe: Recipe = linears(gralora({ rank: 8, alpha: 8 }))

export const claim: Claim = {
  says: 'Low-rank products for each of four blocks do better than one LoRA of as many numbers',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
