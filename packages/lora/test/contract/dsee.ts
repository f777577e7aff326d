import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { rank: 4 },
    { rank: 2, alpha: 2, entries: 40, support: 'magnitude' },
    { rank: 2, entries: 5, support: 'random' },
  ],
}
