/** The comparison of storage formats as plots: what each loses against its bits a weight. */
import { axis, escaped } from '../packages/cli/src/plot.ts'
import { results } from './quant-table.ts'

const [W, H] = [760, 400]
const BOX = { left: 64, right: 24, top: 40, bottom: 40 }
const FONT = 10

interface Point {
  readonly name: string
  readonly bits: number
  readonly value: number
}
interface Measure {
  readonly title: string
  readonly shown: (value: number) => string
  /** which points have their names beside them where there is room */
  readonly named: 'all' | 'frontier'
}
interface Dot extends Point {
  readonly x: number
  readonly y: number
  readonly best: boolean
}
interface Rect {
  readonly x: number
  readonly y: number
  readonly width: number
  readonly height: number
}

/** `gptq:bits=3,group=32,symmetric=false` is `gptq 3`: groups of 32 go without saying */
const short = (name: string): string =>
  name
    .replace(/,?\s*(symmetric=false|group=32)\b/g, '')
    .replace(/\(\)|:$/g, '')
    .replace(/^aqlm:codebooks=(\d+),bits=(\d+),group=(\d+)$/, 'aqlm $1x$2 of $3')
    .replace(/:(bits=)?/, ' ')
const meet = (a: Rect, b: Rect): boolean =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height

/** what nothing of fewer bits is better than, from the fewest bits on */
const frontierOf = (points: readonly Point[]): Point[] => {
  let least = Number.POSITIVE_INFINITY
  return points.filter(({ value }) => {
    const better = value < least
    least = Math.min(least, value)
    return better
  })
}

const panel = (points: readonly Point[], { title, shown, named }: Measure, top: number): string => {
  const sorted = [...points].sort((a, b) => a.bits - b.bits || a.value - b.value)
  const frontier = new Set(frontierOf(sorted))
  const [xs, ys] = [sorted.map((p) => Math.log2(p.bits)), sorted.map((p) => Math.log(p.value))]
  const [x0, x1] = [Math.min(...xs) - 0.1, Math.max(...xs) + 0.1]
  const [y0, y1] = [Math.min(...ys), Math.max(...ys)]
  const [bottom, right] = [top + H - BOX.bottom, W - BOX.right]
  const x = axis([x0, x1], [BOX.left, right])
  const y = axis([y0, y1], [bottom, top + BOX.top])
  const dots = sorted.map((p, i): Dot => ({ ...p, x: Number(x(xs[i]!)), y: Number(y(ys[i]!)), best: frontier.has(p) }))
  const bits = [1, 1.5, 2, 3, 4, 5, 6, 8, 12, 16].filter((b) => Math.log2(b) >= x0 && Math.log2(b) <= x1)
  const steps = Array.from({ length: 5 }, (_, i) => y0 + ((y1 - y0) * i) / 4)
  return [
    `<text x="${BOX.left}" y="${top + 20}" font-weight="bold">${escaped(title)}</text>`,
    ...bits.map((b) => {
      const at = x(Math.log2(b))
      return `<line x1="${at}" x2="${at}" y1="${top + BOX.top}" y2="${bottom}" stroke="#ddd"/><text x="${at}" y="${bottom + 16}" text-anchor="middle">${b}</text>`
    }),
    ...steps.map(
      (v) =>
        `<line x1="${BOX.left}" x2="${right}" y1="${y(v)}" y2="${y(v)}" stroke="#eee"/><text x="${BOX.left - 6}" y="${y(v)}" dy="4" text-anchor="end">${shown(Math.exp(v))}</text>`,
    ),
    `<polyline fill="none" stroke="#1668b8" stroke-width="1.5" points="${dots
      .filter((d) => d.best)
      .map((d) => `${d.x},${d.y}`)
      .join(' ')}"/>`,
    ...dots.map(
      (d) =>
        `<circle cx="${d.x}" cy="${d.y}" r="${d.best ? 4 : 3}" fill="${d.best ? '#1668b8' : '#999'}"><title>${escaped(`${d.name}: ${shown(d.value)} at ${d.bits.toFixed(3)} bits`)}</title></circle>`,
    ),
    ...labels(
      dots.filter((d) => d.best || named === 'all'),
      dots,
      { top: top + BOX.top - 8, bottom: bottom + 4 },
    ),
  ].join('\n')
}

/** names beside dots, those of the frontier first; one without room is left to the dot's title */
const labels = (
  named: readonly Dot[],
  dots: readonly Dot[],
  { top, bottom }: { readonly top: number; readonly bottom: number },
): string[] => {
  const taken: Rect[] = dots.map((d) => ({ x: d.x - 4, y: d.y - 4, width: 8, height: 8 }))
  return [...named]
    .sort((a, b) => Number(b.best) - Number(a.best))
    .flatMap((d) => {
      const text = short(d.name)
      const [width, height] = [0.56 * FONT * text.length, FONT]
      const found = [0, -9, 9, -18, 18]
        .flatMap((dy) => [d.x + 7, d.x - 7 - width].map((x): Rect => ({ x, y: d.y + dy - height / 2, width, height })))
        .find(
          (r) =>
            r.x > BOX.left && r.x + width < W && r.y > top && r.y + height < bottom && !taken.some((t) => meet(t, r)),
        )
      if (!found) return []
      taken.push(found)
      const at = `x="${found.x.toFixed(1)}" y="${(found.y + height - 2).toFixed(1)}"`
      return [`<text ${at} font-size="${FONT}" fill="${d.best ? '#111' : '#777'}">${escaped(text)}</text>`]
    })
}

/** Perplexity and KL against bits, all logarithmic, of each model; the line joins what nothing of fewer bits is better than. */
export const quantPlot = (): string | undefined => {
  const found = results()
  if (!found) return undefined
  const panels = Object.keys(found.models).flatMap((model) => {
    const runs = found.rows.flatMap(({ method, model: of, run }) =>
      of === model && run ? [{ name: method, run }] : [],
    )
    const points = (value: (run: (typeof runs)[number]['run']) => number, least: number): Point[] =>
      runs
        .map(({ name, run }) => ({ name, bits: run.bits, value: value(run) }))
        .filter((p) => Number.isFinite(p.value) && p.value >= least)
    return [
      {
        points: points((r) => r.perplexity.mean, 1),
        measure: {
          title: `${model}: perplexity against bits a weight`,
          shown: (v: number) => v.toFixed(1),
          named: 'frontier' as const,
        },
      },
      {
        // what is no less than rounding of the sums
        points: points((r) => r.kl.mean, 1e-5),
        measure: {
          title: `${model}: KL to the full model, nats a token, against bits a weight`,
          shown: (v: number) => (v < 1e-3 ? v.toExponential(1) : v.toPrecision(2)),
          named: 'all' as const,
        },
      },
    ]
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${W} ${H * panels.length}" font-family="sans-serif" font-size="12">`,
    '<title>Perplexity of a model in each storage format, and its KL to the full one, against bits a weight</title>',
    `<rect width="${W}" height="${H * panels.length}" fill="white"/>`,
    ...panels.map(({ points, measure }, i) => panel(points, measure, i * H)),
    '</svg>',
    '',
  ].join('\n')
}
