import { beside, each, peak } from './harness/rows.ts'
import type { Bench } from './harness/types.ts'
import { configOf, SMALL } from './sides/shape.ts'

const length = 256
const batch = 2
const row = beside('PyTorch', 'ours', 'torch')

export const bench: Bench = {
  question:
    'all parameters train: forward, backward and AdamW of a Llama of 25 million parameters, T=256, batch 2, CPU',
  matches: [
    {
      sides: {
        ours: { label: 'Weft', script: 'weft-step.ts', options: { shape: SMALL, length, batch } },
        torch: {
          ...{ label: 'PyTorch', script: 'torch_step.py', needs: ['torch'] },
          options: { config: configOf(SMALL), length, batch },
        },
      },
      agree: 1e-3,
      rounds: 9,
      rows: [row('tokens/s', each(length * batch), 'more', { goal: 1 }), row('peak memory, MB', peak, 'less')],
    },
  ],
}
