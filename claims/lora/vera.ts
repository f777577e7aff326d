import { vera } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { shareOfLora } from '../share.ts'

/** 16,384 numbers */
export const recipe: Recipe = linears(vera({ rank: 256 }))

export const claim: Claim = {
  says: 'VeRA takes off most of what LoRA does with a ninth of its numbers',
  metric: "share of LoRA's gain, less 0.7",
  margin: async (seed, lab) => (await shareOfLora(recipe, seed, lab)) - 0.7,
}
