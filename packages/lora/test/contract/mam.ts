import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { prefix: { length: 3 }, adapter: { width: 4 } },
    { prefix: { length: 2, form: 'gated', hidden: 4 }, adapter: { width: 3, scale: 'learned', dropout: 0.1 } },
  ],
  suite: { at: ['blocks.*.attn.core', 'blocks.*.mlp'], startsAsIdentity: false },
}
