import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 4 }, { rank: 2, rounds: 3, alpha: 4 }],
}
