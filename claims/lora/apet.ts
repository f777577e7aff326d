import { apet } from '@weftjs/lora/apet'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { recipe as lora } from './lora.ts'

/** LoRA's budget */
export const recipe: Recipe = linears(apet({ count: 143_360 }))

export const claim: Claim = {
  says: 'An arbitrary set of as many numbers does about as well as LoRA',
  metric: '0.05 less the loss over that of LoRA, less 1',
  margin: async (seed, lab) =>
    0.05 - ((await lab.run(recipe, { seed })).loss / (await lab.run(lora, { seed })).loss - 1),
}
