import { lokr } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { shareOfLora } from '../share.ts'

/** 138,000 numbers or so: factors of 4, the other below full rank */
export const recipe: Recipe = linears(lokr({ rank: 31, alpha: 31, factor: 4 }))
/** 15,000 numbers or so */
const small: Recipe = linears(lokr({ rank: 8, alpha: 8 }))

export const claim: Claim = {
  says: 'Kronecker products take off most of what LoRA does with a ninth of its numbers',
  metric: "share of LoRA's gain with factors near the root, less 0.7",
  margin: async (seed, lab) => (await shareOfLora(small, seed, lab)) - 0.7,
}
