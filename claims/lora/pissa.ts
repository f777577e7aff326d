import { pissa } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { earlier } from '../share.ts'

export const recipe: Recipe = linears(pissa({ rank: 8 }))

export const claim: Claim = {
  says: 'Principal components learn faster from the start than noise and zero',
  metric: 'mean loss of the steps of LoRA less that of ours, both at the rate that suits LoRA',
  margin: (seed, lab) => earlier(recipe, seed, lab),
}
