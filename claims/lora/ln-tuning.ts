import { lnTuning } from '@weftjs/lora'
import type { Claim, Recipe } from '../lab.ts'
import { shareOfLora } from '../share.ts'

/** 9·256 = 2,304 numbers, a sixtieth of LoRA's */
export const recipe: Recipe = {
  name: 'ln-tuning',
  attachments: () => [{ adapter: lnTuning(), at: ['norm', 'blocks.*.{norm1,norm2}'] }],
}

export const claim: Claim = {
  says: 'The scales of the norms alone come a quarter as far as LoRA',
  metric: 'share of what LoRA takes off the loss, less 0.25',
  margin: async (seed, lab) => (await shareOfLora(recipe, seed, lab)) - 0.25,
}
