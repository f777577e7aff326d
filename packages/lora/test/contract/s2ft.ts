import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { heads: 0.5, channels: 0.25 },
    { heads: 0.5, channels: 0.1, front: true, seed: 3 },
  ],
  suite: { at: 'blocks.*.{attn,mlp}.{v,o,up,down}', lr: 0.05 },
}
