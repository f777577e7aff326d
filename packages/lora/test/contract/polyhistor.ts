import type { PolyhistorOptions } from '../../src/polyhistor.ts'
import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { embedding: 6, rank: 2, reduction: 4 },
    { embedding: 6, rank: 2, reduction: 4, template: 8 },
    { embedding: 5, rank: 2, reduction: 4, lite: false, activation: 'relu' },
  ],
  suite: (_: PolyhistorOptions) => ({ at: 'blocks.*.mlp', lr: 0.05, steps: 16 }),
}
