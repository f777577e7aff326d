import { lora } from '@weftjs/lora'
import { replicateLayers } from '@weftjs/model'
import { type Claim, LINEARS, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** another network, on which any method trains */
export const recipe = null

/** layers 0 1 2 1 2 3, each copy with a LoRA of its own: 134,400 numbers, as near LoRA's budget as a whole rank comes */
const deeper: Recipe = {
  name: 'lora 5 on layers 0-3 1-4',
  network: (network) =>
    replicateLayers(network, [
      [0, 3],
      [1, 4],
    ]),
  attachments: () => [{ adapter: lora({ rank: 5 }), at: LINEARS }],
}

export const claim: Claim = {
  says: 'A model made deeper by copies of its layers comes back by a little training, and then does better than it did',
  metric: 'loss of LoRA less that of LoRAs on the deeper model, of as many numbers',
  margin: async (seed, lab) => (await lab.run(reference, { seed })).loss - (await lab.run(deeper, { seed })).loss,
}
