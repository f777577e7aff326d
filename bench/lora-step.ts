import { beside, each, peak } from './harness/rows.ts'
import type { Bench, Side } from './harness/types.ts'
import { configOf, SMOL } from './sides/shape.ts'

const T = 256
const rank = 8
const tokens = each(T)

const ours = (layers: number, blas = true): Side => ({
  label: blas ? `Weft, ${layers} layers` : `Weft without a BLAS, ${layers} layers`,
  script: 'weft-step.ts',
  options: { shape: { ...SMOL, layers }, length: T, rank },
  ...(!blas && { env: { WEFT_BLAS: 'off' } }),
})
const peer = (label: string, script: Side['script'], needs: Side['needs'], layers: number): Side => ({
  ...{ label: `${label}, ${layers} layers`, script, needs: needs! },
  options: { shape: { ...SMOL, layers }, config: configOf({ ...SMOL, layers }), length: T, rank },
})

// as many layers as the heap of each holds: 30 need more than the 4 GB that both have
const TFJS = 24
const JAX = 15
const torch = beside('PyTorch + PEFT', 'ours', 'torch')

export const bench: Bench = {
  question: `LoRA (rank ${rank} on q, v), forward, backward and AdamW, SmolLM2-135M's shape, T=${T}, batch 1, on the CPU`,
  matches: [
    {
      sides: { ours: ours(30), torch: peer('PyTorch + PEFT', 'torch_step.py', ['torch', 'peft'], 30) },
      agree: 1e-3,
      rounds: 9,
      rows: [torch('tokens/s', tokens, 'more', { goal: 1 }), torch('peak memory, MB', peak, 'less', { goal: 1 / 0.6 })],
    },
    {
      sides: {
        ours: ours(TFJS),
        own: ours(TFJS, false),
        tfjs: peer('stock tfjs, wasm', 'stock-step.ts', ['tfjs'], TFJS),
      },
      agree: 1e-3,
      // half a minute a step; the step of setting up has warmed it
      rounds: 3,
      warmup: 0,
      rows: [
        beside('stock tfjs, wasm', 'ours', 'tfjs')(`tokens/s with a BLAS, ${TFJS} layers`, tokens, 'more', {
          goal: 15,
        }),
        beside('stock tfjs, wasm', 'own', 'tfjs')(`tokens/s without any BLAS, ${TFJS} layers`, tokens, 'more', {
          goal: 4,
        }),
        beside('stock tfjs, wasm', 'ours', 'tfjs')(`peak memory, MB, ${TFJS} layers`, peak, 'less'),
      ],
    },
    {
      sides: { ours: ours(JAX), own: ours(JAX, false), jax: peer('jax-js, wasm', 'jax-step.ts', ['jax-js'], JAX) },
      agree: 1e-3,
      rounds: 3,
      warmup: 0,
      rows: [
        beside('jax-js (jit, wasm)', 'ours', 'jax')(`tokens/s, ${JAX} layers`, tokens, 'more', { goal: 5 }),
        beside('jax-js (jit, wasm)', 'own', 'jax')(`tokens/s without any BLAS, ${JAX} layers`, tokens, 'more'),
        beside('jax-js (jit, wasm)', 'ours', 'jax')(`peak memory, MB, ${JAX} layers`, peak, 'less'),
      ],
    },
  ],
}
