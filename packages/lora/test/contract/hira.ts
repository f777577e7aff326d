import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 4 }, { rank: 2, init: 'gaussian', dropout: 0.2 }, { rank: 2, rankPattern: { 'attn\\.q': 5 } }],
  counts: (options) => !('rankPattern' in options),
}
