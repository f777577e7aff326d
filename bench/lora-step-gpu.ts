import { softwareVulkan } from '../tools/swiftshader.mjs'
import { beside, each, metric } from './harness/rows.ts'
import type { Bench, Side } from './harness/types.ts'
import { SMOL } from './sides/shape.ts'

const rank = 8
const shape = { ...SMOL, layers: 4 }

const side = (label: string, script: Side['script'], length: number, needs: Side['needs'] = []): Side => ({
  ...{ label, script, needs, gpu: true },
  options: { shape, length, rank, backend: 'webgpu' },
})

export const bench: Bench = {
  question:
    "the LoRA step with 4 layers of SmolLM2-135M's shape on WebGPU (Dawn in Node), all sides on the same adapter",
  matches: async () => {
    // an adapter in software is a thousand times slower than a GPU
    const software = Object.keys(await softwareVulkan()).length > 0
    const T = software ? 32 : 256
    const tokens = each(T)
    const tfjs = beside('stock tfjs-backend-webgpu', 'ours', 'tfjs')
    return [
      {
        sides: {
          ours: side('Weft, WebGPU', 'weft-step.ts', T),
          tfjs: side('stock tfjs, WebGPU', 'stock-step.ts', T, ['tfjs']),
          jax: side('jax-js, WebGPU', 'jax-step.ts', T, ['jax-js']),
        },
        agree: 1e-3,
        rounds: software ? 3 : 9,
        warmup: software ? 0 : 2,
        rows: [
          tfjs(`tokens/s, T=${T}`, tokens, 'more', { goal: 2 }),
          tfjs('dispatches a step', metric('dispatches'), 'less', { goal: 3 }),
          beside('jax-js (jit, WebGPU)', 'ours', 'jax')(`tokens/s, T=${T}`, tokens, 'more', { goal: 1 }),
          beside('jax-js (jit, WebGPU)', 'ours', 'jax')('dispatches a step', metric('dispatches'), 'less'),
        ],
      },
    ]
  },
}
