import { vbLora } from '@weftjs/lora'
import { type Claim, LINEARS, linears, type Recipe } from '../lab.ts'
import { shareOfLora } from '../share.ts'

const size = { rank: 4, vectors: 64, std: 0.1 } as const
/** the longest pieces, up to 128, that divide all sides */
const longest = (sides: readonly number[]): number => {
  let length = 128
  while (sides.some((n) => n % length)) length--
  return length
}

/** 560·64 logits and a bank of 64·128: 44,032 numbers, and of the logits a file keeps two in 64 */
export const recipe: Recipe = {
  name: linears(vbLora({ rank: 4, vectors: 64, length: 128, std: 0.1 })).name,
  attachments: ({ sites }) => {
    const linear = sites.filter((s) => s.kind === 'linear')
    const length = longest(linear.flatMap((s) => [s.in, s.out]))
    return [{ adapter: vbLora({ ...size, length }), at: LINEARS }]
  },
}

export const claim: Claim = {
  says: 'Pieces mixed of one small bank come within a tenth of LoRA',
  metric: 'share of what LoRA takes off the loss, less 0.9',
  margin: async (seed, lab) => (await shareOfLora(recipe, seed, lab)) - 0.9,
}
