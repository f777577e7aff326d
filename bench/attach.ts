import { compared } from './adapters.ts'
import { metric } from './harness/rows.ts'
import type { Bench } from './harness/types.ts'
import { SMOL } from './sides/shape.ts'

/** starts that decompose every matrix, by the randomized SVD or a QR */
const DECOMPOSE = new Set(['pissa', 'olora', 'loftq', 'eva', 'corda', 'svfit', 'loldu', 'dsee', 'loraGa', 'kasa'])

export const bench: Bench = {
  question: "how long an adapter takes to be put on all 30 blocks of SmolLM2's shape, 135 million parameters",
  // a process each: a start may take much of the heap
  matches: async () =>
    (await compared()).map((method) => ({
      sides: { ours: { label: 'Weft', script: 'weft-attaching.ts', options: { method, shape: SMOL } } },
      ...{ rounds: 1, warmup: 0 },
      rows: [
        {
          ...{ peer: 'its limit', metric: `${method}: seconds to attach to 135M`, ours: 'ours', theirs: 'ours' },
          ...{ of: metric('seconds'), ofTheirs: () => (DECOMPOSE.has(method) ? 20 : 2), better: 'less', goal: 1 },
        },
      ],
    })),
}
