import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 12 }, { rank: 5, initial: 1, seed: 7, dropout: 0.2 }],
  suite: { lr: 0.1 },
}
