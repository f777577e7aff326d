import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{}, { rank: 4 }, { energy: 1 }],
  suite: { lr: 0.1, steps: 10 },
}
