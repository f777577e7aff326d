import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ add: true }],
  suite: { at: ['norm', '**.norm1', 'blocks.*.{attn,mlp}.{q,v,o,up,down}'], lr: 0.1 },
}
