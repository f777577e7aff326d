import { lora } from '@weftjs/lora'
import { chain, clipByGlobalNorm, loraPlus } from '@weftjs/optim'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** LoRA, with B sixteen times as fast as A */
export const recipe: Recipe = {
  ...linears(lora({ rank: 8 })),
  name: 'lora-plus 16',
  transform: (lr) => chain(clipByGlobalNorm(1), loraPlus({ lr, ratio: 16 })),
}

export const claim: Claim = {
  says: 'Two rates, the larger one for B, do better than one',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
