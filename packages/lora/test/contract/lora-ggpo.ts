import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 4 }, { rank: 2, alpha: 4, sigma: 0.1, beta: 1, dropout: 0.2 }],
}
