import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { rank: 4 },
    { rank: 2, alpha: 8, rslora: true, init: 'gaussian', dropout: 0.3 },
    { rank: 2, rankPattern: { 'attn\\.q': 5 }, alphaPattern: { 'mlp\\.down': 1 } },
    { rank: 3, loraBias: true },
    { rank: 4, init: 'orthogonal' },
    { rank: 20, anyRank: true },
  ],
  counts: (options) => !('rankPattern' in options),
}
