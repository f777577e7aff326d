import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { block: 8, init: 'gaussian' },
    { block: 4, init: 'zeros' },
    { block: 1, init: 'gaussian' },
    { block: 8, init: 'kaiming', blockPattern: { 'attn\\.q': 16 } },
  ],
  suite: ({ init }) => ({ startsAsIdentity: init === 'zeros', lr: 0.3 }),
}
