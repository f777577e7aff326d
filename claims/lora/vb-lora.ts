import { vbLora } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { shareOfLora } from '../share.ts'

/** 560·64 logits and a bank of 64·128: 44,032 numbers, and of the logits a file keeps two in 64 */
export const recipe: Recipe = linears(vbLora({ rank: 4, vectors: 64, length: 128, std: 0.1 }))

export const claim: Claim = {
  says: 'Pieces mixed of one small bank come within a tenth of LoRA',
  metric: 'share of what LoRA takes off the loss, less 0.9',
  margin: async (seed, lab) => (await shareOfLora(recipe, seed, lab)) - 0.9,
}
