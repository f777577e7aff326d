import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ length: 3 }, { length: 2, form: 'gated' }, { length: 3, hidden: 5 }],
  suite: { at: 'blocks.*.attn.core', startsAsIdentity: false, lr: 0.1, steps: 12 },
}
