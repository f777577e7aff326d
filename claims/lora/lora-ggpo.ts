import { loraGgpo } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

export const recipe: Recipe = linears(loraGgpo({ rank: 8 }))

export const claim: Claim = {
  says: 'Steps taken at weights with noise in their rows generalize better than LoRA',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
