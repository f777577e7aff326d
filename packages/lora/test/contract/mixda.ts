import type { MixdaOptions } from '../../src/mixda.ts'
import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { domains: 2, reduction: 4, gateWidth: 6 },
    { domains: 2, reduction: 4, gateWidth: 6, residual: true, domain: 1 },
    { domains: 1, reduction: 6, gateWidth: 5, gateDropout: 0, gateStart: 3, stage: 2 },
  ],
  suite: ({ residual = false, stage }: MixdaOptions) => ({
    at: 'blocks.*.mlp.down',
    startsAsIdentity: residual,
    ...(stage === 2 && { lr: 0.05, steps: 16 }),
  }),
}
