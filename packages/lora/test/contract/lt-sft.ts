import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{ share: 0.2 }, { share: 0.1, l1: 0.1 }], suite: { lr: 0.05 } }
