import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{ rank: 4 }, { rank: 8 }, { rank: 1 }, { rank: 4, share: 'in' }] }
