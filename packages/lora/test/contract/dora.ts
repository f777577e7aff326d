import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { rank: 4 },
    { rank: 2, alpha: 8, rslora: true, dropout: 0.3 },
    { rank: 2, rankPattern: { 'attn\\.q': 5 } },
  ],
  counts: (options) => !('rankPattern' in options),
}
