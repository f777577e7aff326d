import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{ share: 0.2 }], suite: { lr: 0.05 } }
