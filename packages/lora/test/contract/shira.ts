import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{ rank: 2 }, { rank: 4 }] }
