import type { Bench } from './harness/types.ts'
import { configOf, SMOL } from './sides/shape.ts'

const T = 256
const rank = 8
const step = { shape: SMOL, length: T, rank }

export const bench: Bench = {
  question: `LoRA (rank ${rank} on q, v), forward, backward and AdamW, SmolLM2-135M's shape, T=${T}, batch 1, on the CPU`,
  matches: [
    {
      sides: {
        ours: { label: 'Weft', script: 'weft-step.ts', options: step },
        torch: {
          label: 'PyTorch + PEFT',
          script: 'torch_step.py',
          options: { config: configOf(SMOL), length: T, rank },
          needs: ['torch', 'peft'],
        },
      },
      agree: 1e-3,
      rounds: 9,
      rows: [
        {
          ...{ peer: 'PyTorch + PEFT', metric: 'tokens/s', ours: 'ours', theirs: 'torch' },
          ...{ of: (u) => (T / u.ms) * 1000, better: 'more', goal: 1 },
        },
        {
          ...{ peer: 'PyTorch + PEFT', metric: 'peak memory, MB', ours: 'ours', theirs: 'torch' },
          ...{ of: (_, ran) => ran.peak / 1e6, better: 'less', goal: 1 / 0.6 },
        },
      ],
    },
  ],
}
