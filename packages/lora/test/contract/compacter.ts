import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { reduction: 2, terms: 4 },
    { reduction: 4, terms: 2, rank: 2, dropout: 0.2, activation: 'relu' },
  ],
  // the slow weights begin at 1e-4, and what is added is of the square of that
  suite: { at: 'blocks.*.{attn,mlp}', lr: 0.05, steps: 16 },
}
