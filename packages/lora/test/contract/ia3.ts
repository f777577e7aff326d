import type { Trial } from '../contract.ts'

export const trial: Trial = { options: [{}, { feedforward: ['**.mlp.down', '**.attn.q'] }], suite: { lr: 0.1 } }
