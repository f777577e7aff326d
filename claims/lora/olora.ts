import { olora } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { earlier } from '../share.ts'

export const recipe: Recipe = linears(olora({ rank: 8 }))

export const claim: Claim = {
  says: 'An orthonormal start from W learns faster than noise and zero',
  metric: 'mean loss of the steps of LoRA less that of ours, both at the rate that suits LoRA',
  margin: (seed, lab) => earlier(recipe, seed, lab),
}
