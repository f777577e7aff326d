import { dsee, dseePruned } from '@weftjs/lora/dsee'
import { sitesOf } from '@weftjs/model'
import { type Claim, LINEARS, linears, type Recipe } from '../lab.ts'

/** LoRA at rank 8 and 64 numbers more at each matrix */
export const recipe: Recipe = linears(dsee({ rank: 8, entries: 64 }))
/** the same on a network of which a fifth is zero */
const pruned: Recipe = {
  name: 'dsee on a pruned network',
  network: (network) => dseePruned(network, sitesOf(network), {}, { ratio: 0.2 }),
  attachments: () => [{ adapter: dsee({ rank: 8, entries: 64 }), at: LINEARS }],
}

export const claim: Claim = {
  says: 'With a fifth of the base pruned, tuning comes as far as on the whole of it',
  metric: '0.02 less the loss over that on the whole base, less 1',
  margin: async (seed, lab) =>
    0.02 - ((await lab.run(pruned, { seed })).loss / (await lab.run(recipe, { seed })).loss - 1),
}
