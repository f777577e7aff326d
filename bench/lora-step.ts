import type { Bench, Value } from './harness/types.ts'
import { configOf, SMOL } from './sides/shape.ts'

const T = 256
const rank = 8
const step = { shape: SMOL, length: T, rank }
const tokens: Value = (u) => (T / u.ms) * 1000

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
          ...{ of: tokens, better: 'more', goal: 1 },
        },
        {
          ...{ peer: 'PyTorch + PEFT', metric: 'peak memory, MB', ours: 'ours', theirs: 'torch' },
          ...{ of: (_, ran) => ran.peak / 1e6, better: 'less', goal: 1 / 0.6 },
        },
      ],
    },
    {
      sides: {
        ours: { label: 'Weft', script: 'weft-step.ts', options: step },
        own: { label: 'Weft without a BLAS', script: 'weft-step.ts', options: step, env: { WEFT_BLAS: 'off' } },
        tfjs: { label: 'stock tfjs, wasm', script: 'stock-step.ts', options: step, needs: ['tfjs'] },
        jax: { label: 'jax-js, wasm', script: 'jax-step.ts', options: step, needs: ['jax-js'] },
      },
      agree: 1e-3,
      // the slow ones take half a minute a step; the step of setting up has warmed them
      rounds: 3,
      warmup: 0,
      rows: [
        {
          ...{ peer: 'stock tfjs, wasm', metric: 'tokens/s with a BLAS', ours: 'ours', theirs: 'tfjs' },
          ...{ of: tokens, better: 'more', goal: 15 },
        },
        {
          ...{ peer: 'stock tfjs, wasm', metric: 'tokens/s without any BLAS', ours: 'own', theirs: 'tfjs' },
          ...{ of: tokens, better: 'more', goal: 4 },
        },
        {
          ...{ peer: 'jax-js (jit, wasm)', metric: 'tokens/s', ours: 'ours', theirs: 'jax' },
          ...{ of: tokens, better: 'more', goal: 5 },
        },
        {
          ...{ peer: 'jax-js (jit, wasm)', metric: 'tokens/s without any BLAS', ours: 'own', theirs: 'jax' },
          ...{ of: tokens, better: 'more' },
        },
      ],
    },
  ],
}
