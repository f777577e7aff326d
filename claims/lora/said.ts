import { did } from '@weftjs/lora/did'
import { said } from '@weftjs/lora/said'
import { type Claim, linears, type Recipe } from '../lab.ts'

export const recipe: Recipe = linears(said({ dimension: 10_000 }))

export const claim: Claim = {
  says: 'With a factor for each matrix a subspace of as many numbers goes further',
  metric: 'loss of DID less ours',
  margin: async (seed, lab) =>
    (await lab.run(linears(did({ dimension: 10_000 })), { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
