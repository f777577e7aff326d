import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 4 }, { rank: 4, mode: 'kpm' }, { rank: 2, alpha: 4, niter: 0, damping: 0.1 }],
  suite: { repacks: true },
}
