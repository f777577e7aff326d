import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{ dimension: 5000 }] }
