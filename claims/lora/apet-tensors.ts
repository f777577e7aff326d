import { apetTensors } from '@weftjs/optim'
import type { Claim, Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** LoRA's budget */
export const recipe: Recipe = {
  name: 'apet-tensors',
  train: ({ network, sites, rng }) => apetTensors({ budget: 143_360 })(network, sites, rng.fork('apet')),
}

export const claim: Claim = {
  says: 'Arbitrary whole tensors of as many numbers do about as well as LoRA',
  metric: '0.05 less the loss over that of LoRA, less 1',
  margin: async (seed, lab) =>
    0.05 - ((await lab.run(recipe, { seed })).loss / (await lab.run(reference, { seed })).loss - 1),
}
