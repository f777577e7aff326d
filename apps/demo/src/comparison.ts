import table from '../../../claims/results/lora.json'
import type { Row, Spread } from '../../../claims/table.ts'
import { byId, element } from './form.ts'
import { bytes, count } from './show.ts'

const rows = table.rows as unknown as readonly Row[]

interface Column {
  readonly title: string
  /** for sorting and plotting; null where there is nothing */
  readonly of: (row: Row) => number | string | null
  readonly show: (row: Row) => string
  readonly log?: boolean
}
const spread = ({ mean, sd }: Spread): string => `${mean.toFixed(3)} ± ${sd.toFixed(3)}`
const lora = rows.find((r) => r.method === 'lora')?.run
const COLUMNS: Readonly<Record<string, Column>> = {
  method: { title: 'Method', of: (r) => r.method, show: (r) => r.method },
  loss: { title: 'Loss', of: (r) => r.run?.loss.mean ?? null, show: (r) => (r.run ? spread(r.run.loss) : '') },
  forgetting: {
    title: 'Forgetting',
    of: (r) => r.run?.forgetting.mean ?? null,
    show: (r) => (r.run ? spread(r.run.forgetting) : ''),
  },
  trainable: {
    title: 'Trained numbers',
    of: (r) => r.run?.trainable ?? null,
    show: (r) => (r.run ? count(r.run.trainable) : ''),
    log: true,
  },
  bytes: {
    title: 'On disk',
    of: (r) => r.run?.bytes ?? null,
    show: (r) => (r.run ? bytes(r.run.bytes) : ''),
    log: true,
  },
  time: {
    title: "Step, of LoRA's",
    of: (r) => (r.run && lora ? r.run.milliseconds / lora.milliseconds : null),
    show: (r) => (r.run && lora ? (r.run.milliseconds / lora.milliseconds).toFixed(2) : ''),
  },
  memory: {
    title: "Memory, of LoRA's",
    of: (r) => (r.run && lora ? r.run.peak / lora.peak : null),
    show: (r) => (r.run && lora ? (r.run.peak / lora.peak).toFixed(2) : ''),
  },
  rate: { title: 'Rate', of: (r) => r.run?.rate ?? null, show: (r) => String(r.run?.rate ?? ''), log: true },
  claim: {
    title: "The paper's claim",
    of: (r) => (r.holds === null ? null : r.holds ? 1 : 0),
    show: (r) =>
      r.claim
        ? `${r.claim}: ${r.holds ? 'holds' : 'does not show'} (${r.metric}: ${r.mean!.toFixed(3)} ± ${r.sd!.toFixed(3)})${r.note ? `. ${r.note}` : ''}`
        : (r.error ?? ''),
  },
}

byId('about').textContent =
  `${table.steps} steps; the best of the rates ${table.grid.join(', ')} on a validation split, and of those beyond while the last was the best; ${table.machine}, ${table.date}. Time and memory of a step are from a run that does more than measure; npm run bench -- adapters measures them alone.`

/** -- the table: a click on a heading sorts by it, a second one the other way round */
let sorted = { by: 'loss', down: false }
const compare = (a: Row, b: Row): number => {
  const [x, y] = [COLUMNS[sorted.by]!.of(a), COLUMNS[sorted.by]!.of(b)]
  if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1
  const order = typeof x === 'string' ? x.localeCompare(String(y)) : x - (y as number)
  return sorted.down ? -order : order
}
const filter = byId<HTMLInputElement>('filter')
const chosen = (): Row[] => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean)
  const text = (r: Row): string => `${r.method} ${r.paper} ${r.claim ?? ''}`.toLowerCase()
  return rows.filter((r) => words.every((w) => text(r).includes(w))).sort(compare)
}
const heading = (key: string, { title }: Column): HTMLElement => {
  const button = element('button', { type: 'button', className: 'heading' }, title)
  button.addEventListener('click', () => {
    sorted = { by: key, down: sorted.by === key && !sorted.down }
    draw()
  })
  const cell = element('th', { scope: 'col' }, button)
  cell.setAttribute('aria-sort', sorted.by === key ? (sorted.down ? 'descending' : 'ascending') : 'none')
  return cell
}
const link = (paper: string): Node => {
  const id = /arXiv:(\d{4}\.\d{4,5})/.exec(paper)?.[1]
  return id
    ? element('a', { href: `https://arxiv.org/abs/${id}`, rel: 'noopener' }, paper)
    : document.createTextNode(paper)
}
const drawTable = (shown: readonly Row[]): void => {
  byId('figures')
    .querySelector('thead')!
    .replaceChildren(element('tr', {}, ...Object.entries(COLUMNS).map(([key, column]) => heading(key, column))))
  byId('figures')
    .querySelector('tbody')!
    .replaceChildren(
      ...shown.map((r) =>
        element(
          'tr',
          { id: `row-${r.method}` },
          ...Object.entries(COLUMNS).map(([key, { show }]) =>
            key === 'method'
              ? element('th', { scope: 'row' }, show(r), element('small', {}, link(r.paper)))
              : element('td', { className: key }, show(r)),
          ),
        ),
      ),
    )
  byId('shown').textContent = `${shown.length} of ${rows.length}`
}

/** -- the plot */
const SVG = 'http://www.w3.org/2000/svg'
const svg = (
  tag: string,
  attributes: Readonly<Record<string, string | number>>,
  ...children: (Node | string)[]
): SVGElement => {
  const made = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value))
  made.append(...children)
  return made
}
const axis = { x: byId<HTMLSelectElement>('x-axis'), y: byId<HTMLSelectElement>('y-axis') }
for (const [key, select] of [
  ['trainable', axis.x],
  ['loss', axis.y],
] as const)
  select.append(
    ...Object.entries(COLUMNS)
      .filter(([name]) => !['method', 'claim'].includes(name))
      .map(([value, { title }]) => element('option', { value, selected: value === key }, title)),
  )
/** about six round numbers from least to most */
const ticks = (least: number, most: number, log: boolean): number[] => {
  if (log) {
    const found: number[] = []
    for (let p = Math.floor(Math.log10(least)); p <= Math.ceil(Math.log10(most)); p++) found.push(10 ** p)
    return found.filter((v) => v >= least && v <= most)
  }
  const step = 10 ** Math.floor(Math.log10((most - least) / 3))
  const wide = [1, 2, 5, 10].map((n) => n * step).find((s) => (most - least) / s <= 7)!
  return Array.from({ length: 9 }, (_, i) => (Math.ceil(least / wide) + i) * wide).filter((v) => v <= most)
}
const drawPlot = (shown: readonly Row[]): void => {
  const [W, H, left, bottom] = [860, 420, 64, 44]
  const [cx, cy] = [COLUMNS[axis.x.value]!, COLUMNS[axis.y.value]!]
  const points = shown.flatMap((r) => {
    const [x, y] = [cx.of(r), cy.of(r)]
    const fine = (v: unknown, { log }: Column): v is number =>
      typeof v === 'number' && Number.isFinite(v) && (!log || v > 0)
    return fine(x, cx) && fine(y, cy) ? [{ r, x, y }] : []
  })
  if (!points.length) return void byId('scatter').replaceChildren(element('p', {}, 'No method has both figures.'))
  const scaleOf = (values: readonly number[], log: boolean, from: number, to: number) => {
    const f = log ? Math.log10 : (v: number): number => v
    const ends = [f(Math.min(...values)), f(Math.max(...values))] as const
    const room = (ends[1] - ends[0] || 1) * 0.06
    const [lo, hi] = [ends[0] - room, ends[1] + room]
    const g = log ? (v: number): number => 10 ** v : (v: number): number => v
    return { at: (v: number): number => from + ((f(v) - lo) / (hi - lo)) * (to - from), ends: [g(lo), g(hi)] as const }
  }
  const sx = scaleOf(
    points.map((p) => p.x),
    cx.log ?? false,
    left,
    W - 12,
  )
  const sy = scaleOf(
    points.map((p) => p.y),
    cy.log ?? false,
    H - bottom,
    12,
  )
  const short = (v: number): string => (Math.abs(v) >= 1e4 ? v.toExponential(0) : String(Number(v.toPrecision(3))))
  const lines = [
    ...ticks(...sx.ends, cx.log ?? false).flatMap((v) => [
      svg('line', { x1: sx.at(v), x2: sx.at(v), y1: 12, y2: H - bottom, class: 'grid' }),
      svg('text', { x: sx.at(v), y: H - bottom + 18, class: 'tick', 'text-anchor': 'middle' }, short(v)),
    ]),
    ...ticks(...sy.ends, cy.log ?? false).flatMap((v) => [
      svg('line', { x1: left, x2: W - 12, y1: sy.at(v), y2: sy.at(v), class: 'grid' }),
      svg('text', { x: left - 8, y: sy.at(v) + 4, class: 'tick', 'text-anchor': 'end' }, short(v)),
    ]),
    svg('text', { x: (left + W) / 2, y: H - 6, class: 'tick', 'text-anchor': 'middle' }, cx.title),
    svg(
      'text',
      { x: 14, y: H / 2, class: 'tick', transform: `rotate(-90 14 ${H / 2})`, 'text-anchor': 'middle' },
      cy.title,
    ),
  ]
  const taken: { x: number; y: number }[] = []
  const dots = points.map(({ r, x, y }) => {
    const [px, py] = [sx.at(x), sy.at(y)]
    // a name where it covers no other
    const free = !taken.some((t) => Math.abs(t.y - py) < 12 && Math.abs(t.x - px) < 64)
    if (free) taken.push({ x: px, y: py })
    const dot = svg(
      'a',
      { href: `#row-${r.method}` },
      svg('circle', {
        cx: px,
        cy: py,
        r: r.method === 'lora' ? 6 : 4.5,
        class: r.method === 'lora' ? 'dot own' : 'dot',
      }),
      svg('title', {}, `${r.method}: ${cx.title} ${cx.show(r)}, ${cy.title} ${cy.show(r)}`),
    )
    return free ? svg('g', {}, dot, svg('text', { x: px + 7, y: py + 4, class: 'name' }, r.method)) : dot
  })
  byId('scatter').replaceChildren(
    svg(
      'svg',
      {
        viewBox: `0 0 ${W} ${H}`,
        role: 'img',
        'aria-label': `${cy.title} against ${cx.title} of ${points.length} methods; the table below has the figures`,
      },
      ...lines,
      ...dots,
    ),
  )
}
const draw = (): void => {
  const shown = chosen()
  drawTable(shown)
  drawPlot(shown)
}
filter.addEventListener('input', draw)
for (const select of Object.values(axis)) select.addEventListener('change', draw)
draw()
