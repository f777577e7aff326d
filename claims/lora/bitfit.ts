import { bitfit } from '@weftjs/lora'
import { type Claim, LINEARS, type Recipe } from '../lab.ts'
import { shareOfLora } from '../share.ts'

/** mini has no biases: new ones at all linear sites, 9,216 numbers, a fifteenth of LoRA's */
export const recipe: Recipe = { name: 'bitfit', attachments: () => [{ adapter: bitfit({ add: true }), at: LINEARS }] }

export const claim: Claim = {
  says: 'Biases alone come half as far as LoRA',
  metric: 'share of what LoRA takes off the loss, less 0.5',
  margin: async (seed, lab) => (await shareOfLora(recipe, seed, lab)) - 0.5,
}
