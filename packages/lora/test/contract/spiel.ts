import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{ density: 0.1 }, { density: 0.05, growth: 'ma' }], suite: { lr: 0.05 } }
