import { hra } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** 139,264 numbers */
export const recipe: Recipe = linears(hra({ rank: 16 }))

export const claim: Claim = {
  says: 'Householder reflections forget less than LoRA of as many numbers',
  metric: 'forgetting of LoRA less ours',
  margin: async (seed, lab) =>
    (await lab.run(reference, { seed })).forgetting - (await lab.run(recipe, { seed })).forgetting,
}
