import { lora } from '@weftjs/lora'
import { adamw, chain, clipByGlobalNorm, loraFa } from '@weftjs/optim'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { shareOfLora } from '../share.ts'

/** LoRA, of which A stays as it began: half the numbers move */
export const recipe: Recipe = {
  ...linears(lora({ rank: 8 })),
  name: 'lora-fa',
  transform: (lr) => chain(clipByGlobalNorm(1), loraFa({}, adamw({ lr, weightDecay: 0 }))),
}

export const claim: Claim = {
  says: 'B alone, with A frozen as it was drawn, comes near LoRA',
  metric: 'share of the loss that LoRA takes off, less 0.85',
  margin: async (seed, lab) => (await shareOfLora(recipe, seed, lab)) - 0.85,
}
