import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { experts: 3, rank: 4 },
    { rank: 2, dropout: 0.2, balance: 0.01 },
    { experts: 4, top: 1, balance: 0.01, rank: 2 },
  ],
  counts: (options) => typeof (options as { experts?: number }).experts === 'number',
}
