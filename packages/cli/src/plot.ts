import type { LogRow } from './resume.ts'

const [W, H] = [720, 360]
const BOX = { left: 56, right: 16, top: 40, bottom: 40 }

/** round numbers that cover [from, to] in about `n` steps */
const ticks = (from: number, to: number, n: number): number[] => {
  const rough = (to - from) / n || 1
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough) ?? rough
  const first = Math.ceil(from / step - 1e-9)
  const last = Math.floor(to / step + 1e-9)
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(6)))
}
/** text within SVG */
export const escaped = (text: string): string =>
  text.replace(/[&<>]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c] ?? c)

/** values of [from, to] at [start, end] of an axis, as SVG has numbers */
export const axis =
  ([from, to]: readonly [number, number], [start, end]: readonly [number, number]) =>
  (v: number): string =>
    (start + ((v - from) / (to - from || 1)) * (end - start)).toFixed(1)

/** The losses of a log as an SVG: each step pale, their running mean (0.9) strong, held-out losses as dots. */
export const lossPlot = (rows: readonly LogRow[], title: string): string => {
  const known = rows.filter((r) => Number.isFinite(r.loss))
  const held = known.filter((r) => Number.isFinite(r.validation))
  const steps = known.map((r) => r.step)
  const values = [...known.map((r) => r.loss), ...held.map((r) => r.validation!)]
  const range = (all: readonly number[]): [number, number] => {
    const [lo, hi] = all.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity])
    return Number.isFinite(lo) ? (lo === hi ? [lo - 0.5, hi + 0.5] : [lo, hi]) : [0, 1]
  }
  const [x0, x1] = range(steps)
  const [y0, y1] = range(values)
  const x = axis([x0, x1], [BOX.left, W - BOX.right])
  const y = axis([y0, y1], [H - BOX.bottom, BOX.top])
  let mean = known[0]?.loss ?? 0
  const smooth = known.map((r) => {
    mean = 0.9 * mean + 0.1 * r.loss
    return `${x(r.step)},${y(mean)}`
  })
  const line = (points: readonly string[], style: string): string =>
    points.length ? `<polyline fill="none" ${style} points="${points.join(' ')}"/>` : ''
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${W} ${H}" font-family="sans-serif" font-size="12">`,
    `<rect width="${W}" height="${H}" fill="#fff"/>`,
    `<text x="${BOX.left}" y="24" font-size="14">${escaped(title)}</text>`,
    ...ticks(y0, y1, 5).flatMap((v) => [
      `<line x1="${BOX.left}" x2="${W - BOX.right}" y1="${y(v)}" y2="${y(v)}" stroke="#ddd"/>`,
      `<text x="${BOX.left - 8}" y="${y(v)}" text-anchor="end" dominant-baseline="middle">${v}</text>`,
    ]),
    ...ticks(x0, x1, 8).map((s) => `<text x="${x(s)}" y="${H - BOX.bottom + 18}" text-anchor="middle">${s}</text>`),
    `<text x="${W - BOX.right}" y="${H - 6}" text-anchor="end">step</text>`,
    line(
      known.map((r) => `${x(r.step)},${y(r.loss)}`),
      'stroke="#9bbcd6" stroke-width="1"',
    ),
    line(smooth, 'stroke="#1f5f8b" stroke-width="2"'),
    ...held.map((r) => `<circle cx="${x(r.step)}" cy="${y(r.validation!)}" r="3" fill="#b3541e"/>`),
    ...(held.length ? [`<text x="${W - BOX.right}" y="24" text-anchor="end" fill="#b3541e">held out</text>`] : []),
    '</svg>',
    '',
  ].join('\n')
}
