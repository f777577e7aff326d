import { adalora } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** LoRA's ranks at the end, half as many more at the start */
export const recipe: Recipe = linears(adalora({ start: 12, rank: 8, alpha: 12, warm: 4, final: 16 }))

export const claim: Claim = {
  says: 'Ranks that go where they matter do better than the same number everywhere',
  metric: 'loss of LoRA less ours',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
