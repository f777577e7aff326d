import { movedMostOfEach, pivotal } from '@weftjs/lora/pivotal'
import type { Claim, Recipe } from '../lab.ts'
import { once, price, tuned } from '../phase-one.ts'

const at = 'blocks.*.attn.{q,k,v,o}'
/** 78,644 numbers of attention's, where the method lives */
const moved = once(async (network) => {
  const { before, after } = await tuned(network, [at], { steps: 8 })
  return movedMostOfEach(before, after, 0.1)
})
let found: Awaited<ReturnType<typeof moved>> | undefined
export const recipe: Recipe = {
  name: 'pivotal',
  network: async (network) => {
    found = await moved(network)
    return network
  },
  attachments: () => [{ adapter: pivotal({ share: 0.1 }, found!), at }],
}
const whole: Recipe = { name: 'full attention', train: () => [at] }

export const claim: Claim = {
  says: 'Pivotal numbers learn a concept with less loss of the rest than full tuning of attention',
  metric: 'forgetting for a nat of the task: full tuning less ours',
  margin: async (seed, lab) => (await price(lab, whole, seed)) - (await price(lab, recipe, seed)),
}
