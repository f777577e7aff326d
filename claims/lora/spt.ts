import { spt } from '@weftjs/lora/spt'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { recipe as lora } from './lora.ts'

/** LoRA's budget */
export const recipe: Recipe = linears(spt({ budget: 143_360, dropout: 0 }))

export const claim: Claim = {
  says: 'LoRA and single numbers where gradients are large do better than LoRA everywhere, of as many numbers',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(lora, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
