import { fourierft } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { shareOfLora } from '../share.ts'

// from zero: noise of this scale is small beside the matrices of a large model, not of this one
const of = (frequencies: number): Recipe => linears(fourierft({ frequencies, init: 'zero' }))
/** 143,360 numbers */
export const recipe: Recipe = of(5120)

export const claim: Claim = {
  says: 'A thousand entries of the spectrum take off most of what LoRA does, with a fifth of its numbers',
  metric: "share of LoRA's gain with 1000 entries a matrix, less 0.7",
  margin: async (seed, lab) => (await shareOfLora(of(1000), seed, lab)) - 0.7,
}
