import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{ rank: 4 }, { rank: 7, dropout: 0.2 }, { rank: 5, mini: 4 }] }
