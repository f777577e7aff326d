import { beside, each, peak } from './harness/rows.ts'
import type { Bench, Match } from './harness/types.ts'
import { configOf, SMOL } from './sides/shape.ts'

const prompt = 128
const tokens = 128

const match = (batch: number): Match => {
  const row = beside('transformers on PyTorch', 'ours', 'torch')
  const size = { batch, prompt, tokens }
  return {
    sides: {
      ours: { label: `Weft, batch ${batch}`, script: 'weft-generate.ts', options: { shape: SMOL, ...size } },
      torch: {
        ...{ label: `transformers, batch ${batch}`, script: 'torch_generate.py', needs: ['torch'] },
        options: { config: configOf(SMOL), ...size },
      },
    },
    agree: 1e-3,
    rounds: 3,
    warmup: 0,
    rows: [
      row(`tokens/s, batch ${batch}`, each(batch * tokens), 'more', { goal: 1 }),
      row(`peak memory, MB, batch ${batch}`, peak, 'less'),
    ],
  }
}

export const bench: Bench = {
  question: "128 tokens greedy after a prompt of 128, SmolLM2-135M's shape, CPU",
  matches: [match(1), match(8)],
}
