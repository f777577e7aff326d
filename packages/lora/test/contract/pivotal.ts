import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{}, { share: 1 }], suite: { lr: 0.05 } }
