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

/** how far a recipe's losses lie below LoRA's over all steps, at the rate that suits LoRA: a start that learns faster shows here */
export const earlier = async (recipe: Recipe, seed: number, lab: Lab): Promise<number> => {
  const rate = await lab.rate(reference)
  const mean = ({ curve }: { curve: readonly number[] }): number => curve.reduce((a, b) => a + b) / curve.length
  return mean(await lab.run(reference, { seed, rate })) - mean(await lab.run(recipe, { seed, rate }))
}
