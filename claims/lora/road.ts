import { road } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { shareOfLora } from '../share.ts'

/** 36,864 numbers; the most that this method has */
export const recipe: Recipe = linears(road({ variant: 4 }))
/** 9,216 numbers */
const small: Recipe = linears(road())

export const claim: Claim = {
  says: 'Rotations of pairs of outputs take off most of what LoRA does with a fifteenth of its numbers',
  metric: "share of LoRA's gain with one angle a pair, less 0.7",
  margin: async (seed, lab) => (await shareOfLora(small, seed, lab)) - 0.7,
}
