import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{ tokens: [3, 10, 17, 0] }], suite: { at: 'embed', lr: 0.1 } }
