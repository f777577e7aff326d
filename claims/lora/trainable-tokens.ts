import { trainableTokens } from '@weftjs/lora/trainable-tokens'
import type { Claim, Recipe } from '../lab.ts'
import { shareOfLora } from '../share.ts'

/** the rows of the tokens that the text has most often, in LoRA's budget */
export const recipe: Recipe = {
  name: 'trainable-tokens',
  attachments: ({ network, task }) => {
    const times = new Map<number, number>()
    for (let step = 0; step < 40; step++)
      for (const id of task.batch(0, step).ids) times.set(id, (times.get(id) ?? 0) + 1)
    const often = [...times].sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([id]) => id)
    const tokens = often.slice(0, Math.floor(143_360 / network.weights['embed']!.shape[1])).sort((a, b) => a - b)
    return [{ adapter: trainableTokens({ tokens }), at: 'embed' }]
  },
}

export const claim: Claim = {
  says: 'The rows of chosen tokens alone, all else untouched, take off a good part of what LoRA takes off the loss',
  metric: "share of LoRA's gain, less 0.25",
  margin: async (seed, lab) => (await shareOfLora(recipe, seed, lab)) - 0.25,
}
