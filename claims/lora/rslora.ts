import { lora, rslora } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

export const recipe: Recipe = linears(rslora({ rank: 8 }))

/** the same α at eight times the rank */
const wide: Recipe = linears(lora({ rank: 64, alpha: 8 }))
const ours: Recipe = linears(rslora({ rank: 64, alpha: 8 }))

export const claim: Claim = {
  says: 'At a high rank α/√r goes on learning where α/r is held back',
  metric: "loss of LoRA at rank 64 and α 8 less rsLoRA's there, both at the rate that suits LoRA at rank 8",
  margin: async (seed, lab) => {
    const rate = await lab.rate(reference)
    return (await lab.run(wide, { seed, rate })).loss - (await lab.run(ours, { seed, rate })).loss
  },
}
