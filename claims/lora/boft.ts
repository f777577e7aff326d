import { boft } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'

/** 148,480 numbers both */
export const recipe: Recipe = linears(boft({ block: 8, factors: 2 }))
const one: Recipe = linears(boft({ block: 16 }))

export const claim: Claim = {
  says: 'Two butterfly factors, which mix inputs farther apart, do better than one of as many numbers',
  metric: 'loss with one factor less ours',
  margin: async (seed, lab) => (await lab.run(one, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
