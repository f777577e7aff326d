import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{}, { block: 2, factors: 3 }, { blocks: 2, factors: 2, dropout: 0.5 }] }
