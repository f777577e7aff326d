import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { rank: 4, group: 8 },
    { rank: 2, group: 4, alpha: 8, rslora: true, dropout: 0.3 },
    { rank: 2, group: 2, rankPattern: { 'attn\\.q': 5 }, alphaPattern: { 'mlp\\.down': 1 } },
  ],
  counts: (options) => !('rankPattern' in options),
}
