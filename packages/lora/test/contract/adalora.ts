import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { start: 4, rank: 2 },
    { start: 3, rank: 1, alpha: 16, dropout: 0.2, orthogonal: 0.1 },
    { start: 4, rank: 2, orthogonal: 0 },
  ],
}
