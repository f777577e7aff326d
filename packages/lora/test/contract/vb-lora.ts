import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { vectors: 12, length: 8, bound: 0.5 },
    { rank: 2, vectors: 5, length: 4, top: 3, dropout: 0.2, bound: 0.5, std: 0.5 },
  ],
  suite: { startsAsIdentity: false },
}
