import { loftq, lora } from '@weftjs/lora'
import type { TransformerConfig } from '@weftjs/model'
import { nf4, quantize } from '@weftjs/quant'
import type { Network } from '@weftjs/spec'
import { type Claim, LINEARS, linears, type Recipe } from '../lab.ts'

let original: Network<TransformerConfig> | undefined
const packed: Recipe['network'] = (network) => {
  original = network
  return quantize(network, nf4())
}

/** on mini in NF4 */
export const recipe: Recipe = {
  name: 'loftq on nf4, 5 rounds',
  network: packed,
  attachments: () => [{ adapter: loftq({ rank: 8, rounds: 5 }, original!), at: LINEARS }],
}
const qlora: Recipe = { ...linears(lora({ rank: 8 })), name: 'lora on nf4', network: packed }

export const claim: Claim = {
  says: 'Factors that make up for packing begin nearer to the model than LoRA on the packed one',
  metric: 'loss of LoRA on NF4 before any step less ours',
  margin: async (seed, lab) =>
    (await lab.run(qlora, { seed, rate: 1e-12 })).loss - (await lab.run(recipe, { seed, rate: 1e-12 })).loss,
}
