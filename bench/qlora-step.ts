import { beside, each, metric, peak } from './harness/rows.ts'
import type { Bench } from './harness/types.ts'
import { SMOL } from './sides/shape.ts'

const T = 256
const options = { shape: SMOL, length: T, rank: 8 }
const row = beside('our own float32', 'ours', 'float')

export const bench: Bench = {
  question:
    "the LoRA step on a base in NF4 (double quantization) beside the same in float32, SmolLM2-135M's shape, T=256, CPU",
  matches: [
    {
      sides: {
        ours: { label: 'Weft, NF4', script: 'weft-step.ts', options: { ...options, nf4: true } },
        float: { label: 'Weft, float32', script: 'weft-step.ts', options },
      },
      rounds: 7,
      rows: [
        row('tokens/s', each(T), 'more', { goal: 1 / 1.25 }),
        row('bits a weight of the blocks, at most 4.13', metric('bits'), 'less', { goal: 1, ofTheirs: () => 4.13 }),
        row('peak memory, MB', peak, 'less'),
      ],
    },
  ],
}
