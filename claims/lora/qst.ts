import { lora, qst } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'

/** r = 8: half of LoRA's budget; r = 4 is above it. α begins below 1, so that the side learns from the first step */
export const recipe: Recipe = {
  name: 'qst 8',
  attachments: () => [{ adapter: qst({ reduction: 8, alpha: 0.9 }), at: ['blocks.*', 'norm'] }],
}

export const claim: Claim = {
  says: 'A side network needs a fraction of the memory that LoRA needs to train',
  metric: 'share of LoRA’s peak, beyond what the model itself holds, that is saved',
  margin: async (seed, lab) => {
    const held = Object.values(lab.network.weights).reduce((n, w) => n + 4 * w.shape[0] * w.shape[1], 0)
    const [ours, low] = [await lab.run(recipe, { seed }), await lab.run(linears(lora({ rank: 8 })), { seed })]
    return 1 - (ours.peak - held) / (low.peak - held)
  },
}
