import { series, vlPet } from '@weftjs/lora'
import type { Claim, Recipe } from '../lab.ts'

const at = 'blocks.*.{attn,mlp}'
/** 1026·17 + 512 numbers at each of eight modules: LoRA's budget */
export const recipe: Recipe = {
  name: 'vl-pet 17 17',
  attachments: () => [{ adapter: vlPet({ width: 17, gateWidth: 17 }), at }],
}
const plain: Recipe = {
  name: 'series 35 gelu bias',
  attachments: () => [{ adapter: series({ width: 35, activation: 'gelu_tanh', bias: true }), at }],
}

export const claim: Claim = {
  says: 'Adapters whose output a gate rescales number by number do better than plain ones of as many numbers',
  metric: 'loss of plain adapters less ours',
  margin: async (seed, lab) => (await lab.run(plain, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
