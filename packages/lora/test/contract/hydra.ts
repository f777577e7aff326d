import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { parallel: 2, sequential: 3 },
    { parallel: 2, sequential: 2, bias: true, scale: 1.5, init: 'gaussian' },
    { parallel: 0, sequential: 4 },
    { parallel: 3, sequential: 0 },
  ],
}
