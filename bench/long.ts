import { beside, each, peak } from './harness/rows.ts'
import { reaches, spread } from './harness/stats.ts'
import type { Bench, Match, Ran, Row } from './harness/types.ts'
import { configOf, SMOL } from './sides/shape.ts'

const lengths = [512, 1024, 2048, 4096] as const
const rank = 8

const match = (length: number): Match => {
  const row = beside('PyTorch, gradient checkpointing', 'ours', 'torch')
  return {
    sides: {
      ours: {
        label: `Weft, T=${length}`,
        script: 'weft-step.ts',
        options: { shape: SMOL, length, rank, recompute: true, cold: true },
      },
      torch: {
        ...{ label: `PyTorch + PEFT, T=${length}`, script: 'torch_step.py', needs: ['torch', 'peft'] },
        options: { config: configOf(SMOL), length, rank, checkpointing: true, cold: true },
      },
    },
    agree: 1e-3,
    // a peak is reached in the first step; steps of long texts take minutes
    rounds: 1,
    warmup: 0,
    rows: [
      row(`peak memory, MB, T=${length}`, peak, 'less', { goal: 1 }),
      row(`tokens/s of a first step, T=${length}`, each(length), 'more'),
    ],
  }
}

/** bytes beside the weights, at the peak of a step, for each token */
const perToken = ({ units }: Ran, length: number): number => (units[0]!['peakBytes']! - units[0]!['bytes']!) / length

/** no steeper than linear: a token costs no more in the longest text than in the shortest */
const growth = (results: readonly Readonly<Record<string, Ran>>[]): Row[] => {
  const [first, last] = [results[0]?.['ours'], results.at(-1)?.['ours']]
  if (!first || !last) return []
  const [short, long] = [perToken(first, lengths[0]), perToken(last, lengths.at(-1)!)]
  return [
    {
      peer: `the same at T=${lengths[0]}`,
      metric: `kB of tensors beside the weights for each token, T=${lengths.at(-1)}`,
      ...{ ours: spread([long / 1e3]), theirs: spread([short / 1e3]), ratio: spread([short / long]) },
      ...{ goal: 1, holds: reaches(short / long, 1) },
    },
  ]
}

export const bench: Bench = {
  question: "memory of a LoRA step with recompute at T = 512, 1024, 2048, 4096, SmolLM2-135M's shape, batch 1, CPU",
  matches: lengths.map(match),
  also: growth,
}
