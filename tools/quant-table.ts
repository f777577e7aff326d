/** The comparison of storage formats, from claims/results/quant.json: a table, and perplexity against bits as a plot. */
import { existsSync } from 'node:fs'
import { join, relative } from 'node:path'
import type { QuantRow, QuantTable } from '../claims/table.ts'
import { axis, escaped } from '../packages/cli/src/plot.ts'
import { read, root } from './source.ts'

const FILE = 'claims/results/quant.json'
export const PLOT = 'claims/results/quant.svg'

const results = (): QuantTable | undefined =>
  existsSync(join(root, FILE)) ? (JSON.parse(read(FILE)) as QuantTable) : undefined
const size = (n: number): string => (n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e3).toFixed(1)} kB`)
const claimOf = ({ claim, holds, mean, sd, metric }: QuantRow): string =>
  claim
    ? `${claim}: ${holds ? 'holds' : 'does not show here'} (${metric}: ${mean!.toFixed(4)} ± ${sd!.toFixed(4)})`
    : ''

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
        run.seconds.toFixed(2),
        run.milliseconds.toFixed(1),
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
    `By \`npm run claims -- quant\`: three seeds draw the held-out text and what calibration sees; ${found.machine}, ${found.date}. Bits a weight with scales, ‖Q − W‖²/‖W‖², KL to the full model in nats a token, and the most bytes of tensors while packing beside the model. **mini** reads text that it wrote itself; **small** ([its recipe](${relative(from, 'tools/small/small.yaml')}): 1.4 million tokens, about an hour on one core, 4.30 nats a token held out) reads texts that it was not trained on, and has learned too little to lose much.`,
    '',
    `![perplexity against bits a weight](${relative(from, PLOT)})`,
    '',
    parts.join('\n\n'),
  ].join('\n')
}

const [W, H] = [760, 420]
const BOX = { left: 60, right: 150, top: 24, bottom: 44 }

/** perplexity against bits, both logarithmic, of each model; the line joins what nothing smaller is better than */
export const quantPlot = (): string | undefined => {
  const found = results()
  if (!found) return undefined
  const models = Object.keys(found.models)
  const panels = models.map((model, panel) => {
    const points = found.rows
      .filter((r) => r.model === model && r.run && Number.isFinite(r.run.perplexity.mean))
      .map((r) => ({ name: r.method, x: Math.log2(r.run!.bits), y: Math.log(r.run!.perplexity.mean) }))
      .sort((a, b) => a.x - b.x)
    const [x0, x1] = [Math.min(...points.map((p) => p.x)) - 0.1, Math.max(...points.map((p) => p.x)) + 0.1]
    const [y0, y1] = [Math.min(...points.map((p) => p.y)), Math.max(...points.map((p) => p.y))]
    const top = panel * H
    const x = axis([x0, x1], [BOX.left, W - BOX.right])
    const y = axis([y0, y1], [top + H - BOX.bottom, top + BOX.top])
    let least = Number.POSITIVE_INFINITY
    const frontier = points.filter((p) => {
      if (p.y >= least) return false
      least = p.y
      return true
    })
    const bits = [1, 1.5, 2, 3, 4, 5, 6, 8, 12, 16].filter((b) => Math.log2(b) >= x0 && Math.log2(b) <= x1)
    const steps = Array.from({ length: 5 }, (_, i) => y0 + ((y1 - y0) * i) / 4)
    return [
      `<text x="${BOX.left}" y="${top + 14}" font-weight="bold">${escaped(model)}: perplexity against bits a weight</text>`,
      ...bits.map((b) => {
        const at = x(Math.log2(b))
        return `<line x1="${at}" x2="${at}" y1="${top + BOX.top}" y2="${top + H - BOX.bottom}" stroke="#ddd"/><text x="${at}" y="${top + H - BOX.bottom + 16}" text-anchor="middle">${b}</text>`
      }),
      ...steps.map(
        (v) =>
          `<line x1="${BOX.left}" x2="${W - BOX.right}" y1="${y(v)}" y2="${y(v)}" stroke="#eee"/><text x="${BOX.left - 6}" y="${y(v)}" dy="4" text-anchor="end">${Math.exp(v).toFixed(2)}</text>`,
      ),
      `<polyline fill="none" stroke="#1668b8" stroke-width="1.5" points="${frontier.map((p) => `${x(p.x)},${y(p.y)}`).join(' ')}"/>`,
      ...points.map((p) => {
        const best = frontier.includes(p)
        return `<circle cx="${x(p.x)}" cy="${y(p.y)}" r="${best ? 4 : 3}" fill="${best ? '#1668b8' : '#999'}"/><text x="${x(p.x)}" y="${y(p.y)}" dx="6" dy="-4" font-size="10" fill="${best ? '#111' : '#777'}">${escaped(p.name)}</text>`
      }),
    ].join('\n')
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${W} ${H * models.length}" font-family="sans-serif" font-size="12">`,
    '<title>Perplexity of a model in each storage format, against bits a weight</title>',
    `<rect width="${W}" height="${H * models.length}" fill="white"/>`,
    ...panels,
    '</svg>',
    '',
  ].join('\n')
}
