import { lora } from '@weftjs/lora'
import { type Lab, linears, type Recipe } from './lab.ts'

/** LoRA of rank 8 on all linear sites of the blocks: 143,360 numbers */
export const reference: Recipe = linears(lora({ rank: 8 }))

/** what a recipe takes off the loss, as a share of what LoRA takes off */
export const shareOfLora = async (recipe: Recipe, seed: number, lab: Lab): Promise<number> => {
  const [ours, low, none] = [
    await lab.run(recipe, { seed }),
    await lab.run(reference, { seed }),
    await lab.run(reference, { seed, rate: 1e-12 }),
  ]
  return (none.loss - ours.loss) / (none.loss - low.loss)
}
