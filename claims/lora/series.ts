import { series } from '@weftjs/lora'
import type { Claim, Recipe } from '../lab.ts'

const HALVES = 'blocks.*.{attn,mlp}'
/** 2·35·256 numbers after each of eight modules: LoRA's budget */
const adapter = series({ width: 35 })
export const recipe: Recipe = { name: 'series 35', attachments: () => [{ adapter, at: HALVES }] }

/** every matrix of the same modules */
const whole: Recipe = {
  name: 'full',
  train: ({ sites }) => sites.filter((s) => s.kind === 'linear').map((s) => s.name),
}

export const claim: Claim = {
  says: 'Adapters in series come near full tuning with a few percent of the numbers',
  metric: 'share of the loss that full tuning takes off, less 0.8',
  margin: async (seed, lab) => {
    const [ours, full, none] = [
      await lab.run(recipe, { seed }),
      await lab.run(whole, { seed }),
      await lab.run(recipe, { seed, rate: 1e-12 }),
    ]
    return (none.loss - ours.loss) / (none.loss - full.loss) - 0.8
  },
  note: 'in 40 steps they get about three quarters of it',
}
