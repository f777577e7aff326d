import type { Trial } from '../contract.ts'

// PEFT's default, and the paper's, is a spectrum of noise
export const trial: Trial = {
  options: [
    { frequencies: 40, scale: 5 },
    { frequencies: 100, init: 'zero', seed: 3 },
    { frequencies: 20, init: 'zero', frequenciesPattern: { 'attn\\.q': 5 } },
  ],
  counts: (options) => !('frequenciesPattern' in options),
  suite: ({ init }) => ({ startsAsIdentity: init === 'zero', lr: 0.1 }),
}
