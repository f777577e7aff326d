import { sara } from '@weftjs/lora/sara'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { price } from '../phase-one.ts'
import { recipe as lora } from './lora.ts'

/** LoRA's budget; without the nuclear norm, whose SVD of a matrix would take longer than all else in a step */
export const recipe: Recipe = linears(sara({ share: 0.0521, lambda: 0 }))

export const claim: Claim = {
  says: 'The smallest numbers of a network learn with less loss of what it knew than LoRA of as many',
  metric: 'forgetting for a nat of the task: LoRA less ours',
  margin: async (seed, lab) => (await price(lab, lora, seed)) - (await price(lab, recipe, seed)),
}
