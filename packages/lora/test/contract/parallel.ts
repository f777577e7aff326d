import type { ParallelOptions } from '../../src/parallel.ts'
import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { width: 4 },
    { width: 4, activation: 'relu', scale: 'learned', bias: true, dropout: 0.2 },
    { width: 3, init: 'normal' },
    { width: 4, activation: 'identity', scale: 2 },
  ],
  suite: ({ init, activation }: ParallelOptions) => ({
    startsAsIdentity: init !== 'normal',
    // attention and MLP as a whole have no weight to fold into
    at: activation === 'identity' ? 'blocks.*.attn.{q,v}' : ['blocks.*.{attn,mlp}', 'blocks.*.attn.v'],
  }),
}
