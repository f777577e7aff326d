import { s2ft } from '@weftjs/lora/s2ft'
import type { Claim, Recipe } from '../lab.ts'
import { price } from '../phase-one.ts'

const at = 'blocks.*.{attn.o,mlp.down}'
/** a key-value head of eight and 432 channels of 2560: 143,360 numbers, LoRA's budget */
export const recipe: Recipe = {
  name: 's2ft 0.125 0.16875',
  attachments: () => [{ adapter: s2ft({ heads: 0.125, channels: 0.16875 }), at }],
}
const whole: Recipe = { name: 'full o and down', train: () => [at] }

export const claim: Claim = {
  says: 'A slice of heads and channels forgets less than full tuning of the same matrices',
  metric: 'forgetting for a nat of the task: full tuning less ours',
  margin: async (seed, lab) => (await price(lab, whole, seed)) - (await price(lab, recipe, seed)),
}
