/** The comparison of storage formats, from claims/results/quant.json, as a table. */
import { existsSync } from 'node:fs'
import { join, relative } from 'node:path'
import type { QuantRow, QuantTable, TrainingRow } from '../claims/table.ts'
import { read, root } from './source.ts'

const FILE = 'claims/results/quant.json'
export const PLOT = 'claims/results/quant.svg'

export const results = (): QuantTable | undefined =>
  existsSync(join(root, FILE)) ? (JSON.parse(read(FILE)) as QuantTable) : undefined
const size = (n: number): string => (n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e3).toFixed(1)} kB`)
const claimOf = ({ claim, holds, mean, sd, metric }: Omit<QuantRow, 'method' | 'model' | 'run' | 'seeds'>): string =>
  claim
    ? `${claim}: ${holds ? 'holds' : 'does not show here'} (${metric}: ${mean!.toFixed(4)} ± ${sd!.toFixed(4)})`
    : ''

const trainedOf = (training: readonly TrainingRow[]): string[] =>
  training.length
    ? [
        '',
        '**Training** on mini, 40 steps of the same text, each at the best rate of one grid on a validation split:',
        '',
        ...training.map((r) => `- \`${r.method}\`: ${claimOf(r)}${r.note ? `. ${r.note}` : ''}`),
      ]
    : []

export const quantTable = (
  table: (head: readonly string[], rows: readonly (readonly string[])[]) => string,
  from: string,
): string => {
  const found = results()
  if (!found) return 'No comparison has been kept yet: `npm run claims -- quant --keep` makes one.'
  const parts = Object.entries(found.models).map(([model, { weights }]) => {
    const rows = found.rows.filter((r) => r.model === model)
    const cells = rows.map((r): string[] => {
      const { run } = r
      if (!run) return [`\`${r.method}\``, ...Array<string>(8).fill(''), r.error ?? '']
      return [
        `\`${r.method}\``,
        run.bits.toFixed(3),
        size(run.bytes),
        run.error === null ? '' : run.error.toExponential(1),
        `${run.kl.mean.toFixed(4)} ± ${run.kl.sd.toFixed(4)}`,
        run.perplexity.mean.toFixed(2),
        run.seconds?.toFixed(2) ?? '',
        run.milliseconds?.toFixed(1) ?? '',
        size(run.peak),
        claimOf(r),
      ]
    })
    return [
      `**${model}**, ${weights.toLocaleString('en')} weights in its blocks:`,
      '',
      table(
        ['codec', 'bits', 'size', 'error', 'KL', 'perplexity', 's to pack', 'ms a token', 'peak beside', 'claim'],
        cells.map((c) => c.map((v) => v.replaceAll('|', '\\|'))),
      ),
    ].join('\n')
  })
  return [
    `By \`npm run claims -- quant\`: three seeds draw the held-out text and what calibration sees; ${found.machine}, ${found.date}. Bits a weight with scales, ‖Q − W‖²/‖W‖², KL to the full model in nats a token, and the most bytes of tensors while packing beside the model; times are blank where the machine was busy. **mini** reads text that it wrote itself; **small** ([its recipe](${relative(from, 'tools/small/small.yaml')}): 1.4 million tokens, about an hour on one core, 4.30 nats a token held out) reads texts that it was not trained on, and has learned too little to lose much.`,
    '',
    `![perplexity against bits a weight](${relative(from, PLOT)})`,
    '',
    parts.join('\n\n'),
    ...trainedOf(found.training ?? []),
  ].join('\n')
}
