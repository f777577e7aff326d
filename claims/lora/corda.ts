import { corda } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** the components that the task's own inputs show most of */
export const recipe: Recipe = linears(corda({ rank: 8 }))

export const claim: Claim = {
  says: 'A start from components that the task shows (IPM) does better than LoRA',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
