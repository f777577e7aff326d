import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 4 }, { rank: 8, parts: 4, alpha: 3, dropout: 0.2 }, { rank: 2, hybrid: 3 }, { rank: 3, parts: 1 }],
}
