import { loha } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** 143,360 numbers, an update of rank 16 */
export const recipe: Recipe = linears(loha({ rank: 4, alpha: 4 }))

export const claim: Claim = {
  says: 'A Hadamard product of two low-rank ones, of rank r², does better than LoRA of as many numbers',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
