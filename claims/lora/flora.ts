import { flora } from '@weftjs/lora/flora'
import { lora } from '@weftjs/lora/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'

/** LoRA's budget and 64 numbers of the core at each site */
export const recipe: Recipe = linears(flora({ rank: 8, scale: 4 }))

export const claim: Claim = {
  says: 'A core between two factors does better than LoRA of the same rank',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) =>
    (await lab.run(linears(lora({ rank: 8 })), { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
