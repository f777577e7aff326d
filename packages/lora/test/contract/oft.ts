import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { block: 8 },
    { blocks: 4, share: true, terms: 7 },
    { block: 5, neumann: false, dropout: 0.5 },
    { block: 8, radius: 0.05, terms: 2 },
  ],
}
