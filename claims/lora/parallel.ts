import { parallel } from '@weftjs/lora'
import type { Claim, Recipe } from '../lab.ts'
import { recipe as inSeries } from './series.ts'

/** 2·70·256 numbers beside each of four MLPs: LoRA's budget */
const adapter = parallel({ width: 70, activation: 'relu' })
export const recipe: Recipe = { name: 'parallel mlp 70', attachments: () => [{ adapter, at: 'blocks.*.mlp' }] }

export const claim: Claim = {
  says: 'An adapter beside the MLP does better than adapters in series of as many numbers',
  metric: 'loss of the adapters in series less ours',
  margin: async (seed, lab) => (await lab.run(inSeries, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
