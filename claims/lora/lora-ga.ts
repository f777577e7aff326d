import { loraGa } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { earlier } from '../share.ts'

export const recipe: Recipe = linears(loraGa({ rank: 8, scale: 'authors', gamma: 64 }))

export const claim: Claim = {
  says: 'A start along the gradient learns faster than noise and zero',
  metric: 'mean loss of the steps of LoRA less that of ours, both at the rate that suits LoRA',
  margin: (seed, lab) => earlier(recipe, seed, lab),
}
