import { attach, inputsOf, nextToken } from '@weftjs/model'
import { adamw, greenTrainer, importanceOf } from '@weftjs/optim'
import type { Scalar } from '@weftjs/spec'
import { rng } from '@weftjs/tensor'
import type { Claim, Recipe } from '../lab.ts'
import { once, voiceTask } from '../phase-one.ts'
import { whole } from './hft.ts'

const scored = once(async (network) => {
  const batch = (await voiceTask()).batch(2000, 0)
  const all = attach(network, [], rng(0), { train: '**' })
  return importanceOf(
    (p) => nextToken(all.run(p, inputsOf(batch)), batch) as Scalar,
    all.params,
    adamw({ lr: 1e-3, weightDecay: 0 }),
  )
})
let importance: Awaited<ReturnType<typeof scored>> = {}
/** full tuning of what half of its cost allows, chosen once */
export const recipe: Recipe = {
  name: 'green-trainer 0.5',
  network: async (network) => {
    importance = await scored(network)
    return network
  },
  train: ({ network, sites, rng }) => greenTrainer({ importance, batch: [8, 64], rho: 0.5 })(network, sites, rng),
}

export const claim: Claim = {
  says: 'At half the cost tuning comes about as far',
  metric: '0.05 less the loss over that of full tuning, less 1',
  margin: async (seed, lab) =>
    0.05 - ((await lab.run(recipe, { seed })).loss / (await lab.run(whole, { seed })).loss - 1),
}
