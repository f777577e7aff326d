import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { rank: 4, niter: 0 },
    { rank: 2, alpha: 4, rounds: 3, dropout: 0.2 },
    { rank: 1, niter: 8 },
  ],
  suite: { repacks: true },
}
