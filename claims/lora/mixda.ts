import { mixda } from '@weftjs/lora'
import type { Claim, Recipe } from '../lab.ts'

/** two layers, as in the paper, and a gate that is narrow enough for LoRA's budget */
export const recipe: Recipe = {
  name: 'mixda 32',
  attachments: () => [{ adapter: mixda({ gateWidth: 32, residual: true }), at: 'blocks.{1,3}.mlp.down' }],
}
const whole: Recipe = {
  name: 'full',
  train: ({ sites }) => sites.filter((s) => s.kind === 'linear').map((s) => s.name),
}

export const claim: Claim = {
  says: 'A domain adapter beside the frozen MLP learns its domain and forgets less than training all of the model on it',
  metric: 'forgetting of full tuning less ours, for each nat that each learns',
  margin: async (seed, lab) => {
    const [ours, full, none] = [
      await lab.run(recipe, { seed }),
      await lab.run(whole, { seed }),
      await lab.run(recipe, { seed, rate: 1e-12 }),
    ]
    const price = (r: typeof ours): number => r.forgetting / Math.max(none.loss - r.loss, 1e-6)
    return price(full) - price(ours)
  },
}
