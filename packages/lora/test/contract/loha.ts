import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { rank: 2 },
    { rank: 6, alpha: 3, rankDropout: 0.2, moduleDropout: 0.1 },
    { rank: 2, rankPattern: { 'attn\\.q': 3 }, alphaPattern: { 'mlp\\.down': 1 } },
  ],
  counts: (options) => !('rankPattern' in options),
}
