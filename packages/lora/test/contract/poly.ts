import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { rank: 2 },
    { rank: 2, alpha: 4, tasks: 3, task: 1, skills: 3, heads: 4, relaxed: false },
    { rank: 2, trains: 'average' },
  ],
}
