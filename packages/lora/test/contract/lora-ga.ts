import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { rank: 4 },
    { rank: 2, alpha: 4, direction: 'ArBr', scale: 'gd' },
    { rank: 2, direction: 'A2rBr', scale: 'unit' },
    { rank: 3, direction: 'random', scale: 'weight-svd' },
    { rank: 2, scale: 'authors', gamma: 64 },
  ],
  suite: { repacks: true },
}
