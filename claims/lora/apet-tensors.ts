import { apetTensors } from '@weftjs/optim'
import type { Recipe } from '../lab.ts'

/** LoRA's budget */
export const recipe: Recipe = {
  name: 'apet-tensors',
  train: ({ network, sites, rng }) => apetTensors({ budget: 143_360 })(network, sites, rng.fork('apet')),
}
