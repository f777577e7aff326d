import { ia3 } from '@weftjs/lora'
import type { Claim, Recipe } from '../lab.ts'
import { shareOfLora } from '../share.ts'

/** 4·(128 + 128 + 640) = 3,584 numbers: keys, values and hidden units, a fortieth of LoRA's */
export const recipe: Recipe = {
  name: 'ia3',
  attachments: () => [{ adapter: ia3(), at: 'blocks.*.{attn,mlp}.{k,v,down}' }],
}

export const claim: Claim = {
  says: 'Scaling keys, values and hidden units comes half as far as LoRA with a fraction of its numbers',
  metric: 'share of what LoRA takes off the loss, less 0.5',
  margin: async (seed, lab) => (await shareOfLora(recipe, seed, lab)) - 0.5,
}
