import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 4, rho: 1 }, { rank: 3 }, { rank: 2, rslora: true, whiten: true, adjust: false }],
  counts: (options) => 'rho' in options,
}
