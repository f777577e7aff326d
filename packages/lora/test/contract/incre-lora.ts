import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{}, { rank: 3, increment: 2, target: 8, scaling: 'fixed', advance: false, orthogonal: 0 }],
  suite: { lr: 0.05, steps: 12 },
}
