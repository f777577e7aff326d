import { eva } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { earlier } from '../share.ts'

export const recipe: Recipe = linears(eva({ rank: 8 }))

export const claim: Claim = {
  says: 'A start along the inputs of the task learns faster than noise and zero',
  metric: 'mean loss of the steps of LoRA less that of ours, both at the rate that suits LoRA',
  margin: (seed, lab) => earlier(recipe, seed, lab),
}
