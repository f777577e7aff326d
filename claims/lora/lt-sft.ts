import { ltSft, movedMost } from '@weftjs/lora/lt-sft'
import { type Claim, LINEARS, linears, type Recipe } from '../lab.ts'
import { once, tuned } from '../phase-one.ts'

const moved = once(async (network) => {
  const { before, after } = await tuned(network, [LINEARS])
  return movedMost(before, after, 143_360)
})
let found: Awaited<ReturnType<typeof moved>> | undefined
/** LoRA's budget, at the numbers that 20 steps of full tuning moved most */
export const recipe: Recipe = {
  name: 'lt-sft',
  network: async (network) => {
    found = await moved(network)
    return network
  },
  attachments: () => [{ adapter: ltSft({}, found!), at: LINEARS }],
}
const random = linears(ltSft({ share: 143_360 / 2_752_512 }))

export const claim: Claim = {
  says: 'The numbers that moved most do better than as many at random',
  metric: 'loss of random places less ours',
  margin: async (seed, lab) => (await lab.run(random, { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
