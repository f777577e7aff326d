import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 4 }, { rank: 2, alpha: 8, rslora: true, init: 'gaussian' }],
}
