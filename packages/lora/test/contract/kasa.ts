import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 4 }, { rank: 2, alpha: 2, beta: 0.01, gamma: 0.1, dropout: 0.2 }],
  // the smallest components of the base are gone
  suite: { startsAsIdentity: false },
}
