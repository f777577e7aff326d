import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{}, { dimension: 100 }, { dimension: 5000 }] }
