import { beside, metric, peak } from './harness/rows.ts'
import type { Bench } from './harness/types.ts'
import { checkpoint } from './sides/checkpoint.ts'
import { SMOL } from './sides/shape.ts'

const length = 16

export const bench: Bench = {
  question:
    'open a sharded checkpoint of 538 MB (float32, in the cache of the file system) and run the first forward pass, CPU',
  matches: async () => {
    const path = await checkpoint()
    const row = beside('transformers from_pretrained', 'ours', 'torch')
    return [
      {
        sides: {
          ours: { label: 'Weft', script: 'weft-load.ts', options: { path, length } },
          torch: {
            ...{ label: 'transformers', script: 'torch_load.py', needs: ['torch'] },
            options: { path, length, vocabulary: SMOL.vocabulary },
          },
        },
        agree: 1e-3,
        rounds: 7,
        rows: [
          row('ms to open and run', metric('ms'), 'less', { goal: 2 }),
          row('ms to open', metric('openMs'), 'less'),
          row('peak memory, MB', peak, 'less'),
          beside('what the model needs', 'ours', 'ours')('MB read', metric('read'), 'less', {
            goal: 0.999,
            ofTheirs: metric('needed'),
          }),
        ],
      },
    ]
  },
}
