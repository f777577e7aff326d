import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 4 }, { rank: [3, 5], scale: 1, dropout: 0.2 }],
}
