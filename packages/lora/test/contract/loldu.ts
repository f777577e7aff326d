import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{}, { rank: 5, alpha: 5, init: 'normal' }, { rank: 8, alpha: 8, init: 'mean', trainScale: true }],
  suite: { lr: 0.1, steps: 10 },
}
