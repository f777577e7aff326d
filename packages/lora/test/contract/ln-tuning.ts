import type { Trial } from '../contract.ts'

export const trial: Trial = { suite: { at: ['norm', '**.{norm1,norm2}'], lr: 0.1 } }
