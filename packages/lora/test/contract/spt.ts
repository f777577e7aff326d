import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 2 }, { rank: 2, kappa: 1, top: 100, dropout: 0 }, { budget: 500, rank: 1, kappa: 3 }],
  // a bound: the calibration decides
  counts: () => false,
}
