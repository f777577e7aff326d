import type { VlPetOptions } from '../../src/vl-pet.ts'
import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { width: 4, gateWidth: 3 },
    { width: 4, granularity: 'middleX', activation: 'relu' },
    { width: 3, granularity: 'middleY', scale: 0.5 },
  ],
  // every gate begins at ½, or near 1
  suite: (_: VlPetOptions) => ({ at: ['blocks.*.{attn,mlp}', 'blocks.*.attn.v'], startsAsIdentity: false }),
}
