import { apet } from '@weftjs/lora/apet'
import { spiel } from '@weftjs/lora/spiel'
import { type Claim, linears, type Recipe } from '../lab.ts'

/** LoRA's budget; choices as often as 40 steps allow */
export const recipe: Recipe = linears(spiel({ density: 0.0521, every: 10, window: 3 }))
const fixed = linears(apet({ share: 0.0521 }))

export const claim: Claim = {
  says: 'Places that are dropped and grown do better than as many at random',
  metric: 'loss of fixed random places less ours',
  margin: async (seed, lab) => (await lab.run(fixed, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
