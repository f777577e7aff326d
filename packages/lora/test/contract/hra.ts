import type { Trial } from '../contract.ts'

// an odd number of reflections, or one at all of them at once, is never the identity
export const trial: Trial = {
  options: [{ rank: 4 }, { rank: 3 }, { rank: 2, orthogonal: true }],
  suite: ({ rank, orthogonal }) => ({ startsAsIdentity: rank % 2 === 0 && !orthogonal }),
}
