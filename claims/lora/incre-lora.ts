import { increLora } from '@weftjs/lora/incre-lora'
import { lora } from '@weftjs/lora/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'

/** grows to rank 4 in 11 rounds over the first 33 of 40 steps */
export const recipe: Recipe = linears(increLora({ rank: 1, target: 4, top: 8, every: 3, warm: 3, alpha: 8 }))

export const claim: Claim = {
  says: 'Ranks that grow where they matter do better than LoRA with as many everywhere',
  metric: 'loss of LoRA of rank 4 less ours',
  note: 'λ begins at zero between factors of 0.02, so that forty steps barely leave the start; the paper grows over thousands',
  margin: async (seed, lab) =>
    (await lab.run(linears(lora({ rank: 4, alpha: 8 })), { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
