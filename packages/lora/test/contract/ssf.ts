import type { SsfOptions } from '../../src/ssf.ts'
import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{}, { init: 'normal' }, { scale: false }, { shift: false }],
  suite: ({ init }: SsfOptions) => ({
    at: ['blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}', 'blocks.*.norm*', 'norm', 'head'],
    startsAsIdentity: init !== 'normal',
  }),
}
