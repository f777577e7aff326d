import { mam, prefix } from '@weftjs/lora'
import type { Claim, Recipe } from '../lab.ts'
import { recipe as inSeries } from './series.ts'

/** 2·16·128 numbers at each attention and 2·61·256 + 61 + 256 at each MLP: near LoRA's budget */
const adapter = mam({ prefix: { length: 16 }, adapter: { width: 61 } })
export const recipe: Recipe = {
  name: 'mam 16 61',
  attachments: () => [{ adapter, at: ['blocks.*.attn.core', 'blocks.*.mlp'] }],
}
/** as many numbers in a prefix alone */
const long: Recipe = {
  name: 'prefix 140',
  attachments: () => [{ adapter: prefix({ length: 140 }), at: 'blocks.*.attn.core' }],
}

export const claim: Claim = {
  says: 'A small prefix and a scaled parallel adapter do better together than a prefix or an adapter in series of as many numbers',
  metric: 'the least loss of those less ours',
  margin: async (seed, lab) => {
    const others = [await lab.run(long, { seed }), await lab.run(inSeries, { seed })]
    return Math.min(...others.map((r) => r.loss)) - (await lab.run(recipe, { seed })).loss
  },
}
