import { kasa } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

export const recipe: Recipe = linears(kasa({ rank: 8 }))

export const claim: Claim = {
  says: 'Without its least components, and with singular values of its own, the update does better than LoRA',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
