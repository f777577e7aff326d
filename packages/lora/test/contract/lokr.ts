import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    {},
    { rank: 1, decomposeBoth: true },
    { rank: 1, alpha: 1, factor: 2, init: 'lycoris', rankDropout: 0.2, rankDropoutScale: true, moduleDropout: 0.1 },
    { rank: 2, factor: 5, rankPattern: { 'attn\\.q': 1 } },
  ],
  counts: (options) => !('rankPattern' in options),
  suite: { lr: 0.05 },
}
