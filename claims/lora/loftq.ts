import { loftq, lora } from '@weftjs/lora'
import { attach, inputsOf, type TransformerConfig, type Tuned } from '@weftjs/model'
import { nf4, quantize } from '@weftjs/quant'
import type { Adapter, Network, Tensor } from '@weftjs/spec'
import { mean as average, rng as newRng, sqrt, square, sub, tidy } from '@weftjs/tensor'
import { type Claim, type Lab, LINEARS, type Recipe } from '../lab.ts'

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
/** how far its logits lie from those of mini, in root mean square */
const gap = async (
  network: Network<TransformerConfig>,
  adapter: Adapter<any>,
  seed: number,
  lab: Lab,
): Promise<number> => {
  const inputs = inputsOf(lab.task.test[0]!)
  const logits = (tuned: Tuned): Tensor => tuned.forward(tuned.params, inputs).logits
  const tuned = attach(network, [{ adapter, at: LINEARS }], newRng(seed))
  const mean = tidy(() => sqrt(average(square(sub(logits(tuned), logits(attach(lab.network, [], newRng(0))))))))
  return (await mean.data())[0]!
}

export const claim: Claim = {
  says: 'Factors that make up for packing begin nearer to the model than LoRA on the packed one',
  metric: 'distance of the logits of LoRA on NF4 from the model before any step, less that of ours, over the first',
  margin: async (seed, lab) => {
    const small = await quantize(lab.network, nf4())
    const plain = await gap(small, lora({ rank: 8 }), seed, lab)
    return (plain - (await gap(small, loftq({ rank: 8, rounds: 5 }, lab.network), seed, lab))) / plain
  },
}
