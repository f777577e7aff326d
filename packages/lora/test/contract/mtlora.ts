import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ rank: 4 }, { rank: 2, dropout: 0.2 }, { rank: 4, tasks: 1, taskRank: 2, addShared: true }],
  suite: (options) => ('tasks' in options ? { at: ['blocks.*', 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'] } : {}),
  counts: (options) => !('tasks' in options),
}
