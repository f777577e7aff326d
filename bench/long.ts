import { beside, each, metric, peak } from './harness/rows.ts'
import { spread } from './harness/stats.ts'
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

/** bytes of tensors that one more token costs between two lengths */
const slopes = (ran: readonly (Ran | undefined)[], at: (r: Ran) => number): number[] =>
  ran.slice(1).map((r, i) => {
    const before = ran[i]
    return r && before ? (at(r) - at(before)) / (lengths[i + 1]! - lengths[i]!) : Number.NaN
  })

/** a token more costs at the end of the range what it costs at its beginning: growth is linear */
const growth =
  (label: string, side: string, at: (r: Ran) => number, goal?: number) =>
  (results: readonly Readonly<Record<string, Ran>>[]): Row[] => {
    const all = slopes(
      results.map((r) => r[side]),
      at,
    )
    const [first, last] = [all[0]!, all.at(-1)!]
    if (!(Number.isFinite(first) && Number.isFinite(last))) return []
    const ratio = first / last
    return [
      {
        ...{ peer: 'linear growth', metric: label, ours: spread([last / 1e3]), theirs: spread([first / 1e3]) },
        ...{ ratio: spread([ratio]), goal: goal ?? null, holds: goal === undefined ? null : ratio >= goal },
      },
    ]
  }

export const bench: Bench = {
  question: "memory of a LoRA step with recompute at T = 512, 1024, 2048, 4096, SmolLM2-135M's shape, batch 1, CPU",
  matches: lengths.map(match),
  also: (results) => [
    ...growth(
      'kB of tensors for a token more, at the end beside at the beginning',
      'ours',
      (r) => metric('peakBytes')(r.units[0]!, r),
      0.9,
    )(results),
    ...growth("kB resident for a token more, PyTorch's", 'torch', (r) => r.peak)(results),
  ],
}
