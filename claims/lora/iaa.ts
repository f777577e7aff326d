import { iaa } from '@weftjs/lora'
import type { Claim, Recipe } from '../lab.ts'

const at = ['blocks.*', 'blocks.*.{attn,mlp}']
const of = (inside: number, aside: number): Recipe => ({
  name: `iaa ${inside} ${aside}`,
  attachments: () => [{ adapter: iaa({ inside, aside }), at }],
})
/** 3·(513·22 + 256) numbers a layer: near LoRA's budget */
export const recipe: Recipe = of(22, 22)

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b) / values.length

export const claim: Claim = {
  says: 'Adapters that are joined beside the frozen layers learn faster than scattered ones of as many numbers',
  metric: 'loss of scattered adapters less ours, mean of all steps',
  margin: async (seed, lab) =>
    mean((await lab.run(of(33, 0), { seed })).curve) - mean((await lab.run(recipe, { seed })).curve),
}
