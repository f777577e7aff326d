import { oft } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** 134,912 numbers */
export const recipe: Recipe = linears(oft({ block: 32 }))

export const claim: Claim = {
  says: 'Rotations, which keep the angles between neurons, forget less than LoRA of as many numbers',
  metric: 'forgetting of LoRA less ours',
  margin: async (seed, lab) =>
    (await lab.run(reference, { seed })).forgetting - (await lab.run(recipe, { seed })).forgetting,
}
