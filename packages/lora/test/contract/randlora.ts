import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { rank: 4 },
    { rank: 3, alpha: 9, bases: 'sparse', dropout: 0.1 },
    { rank: 8, bases: 'very-sparse', seed: 3 },
  ],
}
