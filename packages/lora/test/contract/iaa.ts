import type { IaaOptions } from '../../src/iaa.ts'
import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { inside: 4, aside: 3 },
    { inside: 0, aside: 4, activation: 'gelu' },
    { inside: 4, aside: 0 },
    { inside: 3, aside: 3, carried: true },
  ],
  suite: ({ carried }: IaaOptions) => ({
    at: ['blocks.*', 'blocks.*.{attn,mlp}', ...(carried ? ['norm'] : [])],
  }),
}
