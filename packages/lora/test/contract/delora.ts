import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { rank: 4 },
    { rank: 2, lambda: 3, dropout: 0.2, rankPattern: { 'attn\\.q': 5 }, lambdaPattern: { 'mlp\\.up': 7 } },
  ],
}
