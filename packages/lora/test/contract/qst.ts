import type { QstOptions } from '../../src/qst.ts'
import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { reduction: 2, rank: 4 },
    { reduction: 2, rank: 3, alpha: 0.8 },
    { reduction: 2, down: 'mean' },
    { reduction: 2, down: 'max', alpha: 0.9 },
  ],
  suite: ({ alpha = 1 }: QstOptions) => ({ at: ['blocks.*', 'norm'], startsAsIdentity: alpha === 1 }),
}
