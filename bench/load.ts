import { beside, metric, peak } from './harness/rows.ts'
import type { Bench, Side } from './harness/types.ts'
import { checkpoint } from './sides/checkpoint.ts'
import { SMOL } from './sides/shape.ts'

const length = 16

export const bench: Bench = {
  question:
    'open a sharded checkpoint of 538 MB (float32, in the cache of the file system) and run the first forward pass, CPU',
  matches: async () => {
    const path = await checkpoint()
    const ours: Side = { label: 'Weft', script: 'weft-load.ts', options: { path, length } }
    const torch: Side = {
      ...{ label: 'transformers', script: 'torch_load.py', needs: ['torch'] },
      options: { path, length, vocabulary: SMOL.vocabulary },
    }
    /** in a process that begins with nothing: what a command or a server's start waits for */
    const fresh = ({ needs = [], ...side }: Side): Side => ({
      ...{ label: `${side.label}, a new process each time`, script: 'fresh.ts', needs },
      options: { side },
    })
    const row = beside('transformers from_pretrained', 'ours', 'torch')
    return [
      {
        sides: { ours, torch },
        agree: 1e-3,
        rounds: 7,
        rows: [
          row('ms to open and run, again and again in one process', metric('ms'), 'less', { goal: 2 }),
          row('ms to open', metric('openMs'), 'less'),
          row('peak memory, MB', peak, 'less'),
          beside('what the model needs', 'ours', 'ours')('MB read', metric('read'), 'less', {
            goal: 0.999,
            ofTheirs: metric('needed'),
          }),
        ],
      },
      {
        sides: { ours: fresh(ours), torch: fresh(torch) },
        agree: 1e-3,
        rounds: 5,
        rows: [row('ms from the start of the process to the first logits', metric('ms'), 'less', { goal: 2 })],
      },
    ]
  },
}
