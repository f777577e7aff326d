import { hira } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** 143,360 numbers, an update of full rank */
export const recipe: Recipe = linears(hira({ rank: 8 }))

export const claim: Claim = {
  says: 'An update of high rank, W times a low-rank one, does better than LoRA of as many numbers',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
