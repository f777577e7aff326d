import type { Trial } from '../contract.ts'

// the batch of the suite is 0, 7, 14, 21, 4, 11, 18, 1 and 11, 18, 1, 8, 15, 22, 5, 12
export const trial: Trial = {
  options: [
    { rank: 4, tokens: [0] },
    { rank: 2, alpha: 8, rslora: true, dropout: 0.3, tokens: [7, 14] },
    { rank: 3, loraBias: true, tokens: [18] },
  ],
}
