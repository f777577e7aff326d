import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { width: 6, experts: 2 },
    { width: 4, experts: 4, split: 'both', by: 'row', place: 'after' },
    { width: 4, experts: 2, by: 'column', merge: 'sum', activation: 'relu', scale: 0.5 },
  ],
  suite: { at: 'blocks.*.{attn,mlp}' },
}
