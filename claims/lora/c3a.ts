import { c3a } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** 2,752,512/32 = 86,016 numbers, three fifths of LoRA's */
export const recipe: Recipe = linears(c3a({ block: 32 }))

export const claim: Claim = {
  says: 'Circulant blocks, of full rank, do better than LoRA with fewer numbers',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
