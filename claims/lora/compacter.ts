import { compacter, series } from '@weftjs/lora'
import type { Claim, Recipe } from '../lab.ts'

const at = 'blocks.*.{attn,mlp}'
/** 3·(256 + 64) numbers at a module and 64 common ones: a twentieth of LoRA's budget, which is the point of the method */
export const recipe: Recipe = {
  name: 'compacter 4',
  attachments: () => [{ adapter: compacter({ reduction: 4 }), at }],
}
const full: Recipe = {
  name: 'series 64 gelu bias',
  attachments: () => [{ adapter: series({ width: 64, activation: 'gelu_tanh', bias: true }), at }],
}

export const claim: Claim = {
  says: 'Hypercomplex adapters come within a few percent of dense ones with a fraction of the numbers',
  metric: '0.05 less the loss over that of dense adapters, less 1',
  margin: async (seed, lab) => {
    const [ours, dense] = [await lab.run(recipe, { seed }), await lab.run(full, { seed })]
    return ours.trainable < dense.trainable / 20 ? 0.05 - (ours.loss / dense.loss - 1) : -1
  },
}
