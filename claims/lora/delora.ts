import { delora } from '@weftjs/lora'
import { type Claim, linears, type Recipe } from '../lab.ts'
import { reference } from '../share.ts'

/** LoRA's budget and a strength at each matrix */
export const recipe: Recipe = linears(delora({ rank: 8 }))

export const claim: Claim = {
  says: 'Bounded updates bear rates that are too large: at ten times its best, it loses less than LoRA at ten times its own',
  metric: 'what LoRA loses by a tenfold rate less what we lose',
  margin: async (seed, lab) => {
    const worse = async (r: Recipe): Promise<number> =>
      (await lab.run(r, { seed, rate: 10 * (await lab.rate(r)) })).loss - (await lab.run(r, { seed })).loss
    return (await worse(reference)) - (await worse(recipe))
  },
}
