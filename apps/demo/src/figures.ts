/** A table of figures with a plot of any two: sorted by a click on a heading, filtered by words, a link to every row. */
import { byId, element } from './form.ts'
import { type Axis, drawPoints } from './plot.ts'

export interface Column<R> {
  readonly title: string
  /** what it says, in a sentence below the table */
  readonly help: string
  /** for sorting and plotting; null where there is nothing */
  readonly of: (row: R) => number | string | null
  readonly show: (row: R) => string
  readonly log?: boolean
  /** on an axis; short by default */
  readonly tick?: (value: number) => string
  /** words, to the left */
  readonly words?: boolean
}
export interface Page<R> {
  readonly columns: Readonly<Record<string, Column<R>>>
  /** the heading of the names */
  readonly title: string
  readonly nameOf: (row: R) => string
  /** under the name */
  readonly paperOf?: (row: R) => string
  /** one that the others are seen beside */
  readonly own: string
  /** which columns at first */
  readonly sorted: string
  readonly across: string
  readonly up: string
}

const short = (v: number): string =>
  Math.abs(v) >= 1e6
    ? `${Number((v / 1e6).toPrecision(3))}M`
    : Math.abs(v) >= 1e3
      ? `${Number((v / 1e3).toPrecision(3))}k`
      : String(Number(v.toPrecision(3)))

const links = (paper: string): Node[] =>
  paper.split(/(arXiv:\d{4}\.\d{4,5})/).flatMap((part): Node[] => {
    const id = /^arXiv:(.*)$/.exec(part)?.[1]
    if (id === undefined) return part ? [document.createTextNode(part)] : []
    return [element('a', { href: `https://arxiv.org/abs/${id}`, rel: 'noopener' }, part)]
  })

/** gptq:bits=3,group=32 may go on in another line */
const breaking = (name: string): (Node | string)[] =>
  name.split(/(?<=[:,(])/).flatMap((part, i) => (i ? [element('wbr'), part] : [part]))

/** Fills the page; gives a function that shows other rows. */
export const figures = <R>(page: Page<R>): ((rows: readonly R[]) => void) => {
  const { columns, nameOf, paperOf } = page
  const table = byId('figures')
  const scatter = byId('scatter')
  const filter = byId<HTMLInputElement>('filter')
  const axes = { x: byId<HTMLSelectElement>('x-axis'), y: byId<HTMLSelectElement>('y-axis') }
  const plotted = Object.entries(columns).filter(([, c]) => !c.words)
  for (const [select, chosen] of [
    [axes.x, page.across],
    [axes.y, page.up],
  ] as const)
    select.append(
      ...plotted.map(([value, { title }]) => element('option', { value, selected: value === chosen }, title)),
    )
  byId('columns').replaceChildren(
    ...Object.values(columns).flatMap(({ title, help }) => [element('dt', {}, title), element('dd', {}, help)]),
  )

  let rows: readonly R[] = []
  let sorted = { by: page.sorted, down: false }
  const figureOf = (row: R): number | string | null =>
    sorted.by === 'name' ? nameOf(row) : columns[sorted.by]!.of(row)
  const compare = (a: R, b: R): number => {
    const [x, y] = [figureOf(a), figureOf(b)]
    if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1
    const order = typeof x === 'string' ? x.localeCompare(String(y)) : x - (y as number)
    return sorted.down ? -order : order
  }
  const chosen = (): R[] => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean)
    const spoken = Object.values(columns).filter((c) => c.words)
    const text = (r: R): string =>
      [nameOf(r), paperOf?.(r) ?? '', ...spoken.map((c) => c.show(r))].join(' ').toLowerCase()
    return rows.filter((r) => words.every((w) => text(r).includes(w))).sort(compare)
  }
  const heading = (key: string, title: string, words: boolean): HTMLElement => {
    const button = element('button', { type: 'button', className: 'heading', title: columns[key]?.help ?? '' }, title)
    button.addEventListener('click', () => {
      sorted = { by: key, down: sorted.by === key && !sorted.down }
      draw()
      // the heading was made anew
      table.querySelector<HTMLElement>(`th[data-key="${key}"] button`)!.focus()
    })
    const cell = element('th', { scope: 'col', className: words ? 'words' : '' }, button)
    cell.dataset['key'] = key
    cell.setAttribute('aria-sort', sorted.by === key ? (sorted.down ? 'descending' : 'ascending') : 'none')
    return cell
  }
  const drawTable = (shown: readonly R[]): void => {
    table
      .querySelector('thead')!
      .replaceChildren(
        element(
          'tr',
          {},
          heading('name', page.title, true),
          ...Object.entries(columns).map(([key, { title, words = false }]) => heading(key, title, words)),
        ),
      )
    table.querySelector('tbody')!.replaceChildren(
      ...shown.map((r) => {
        const id = `row-${nameOf(r)}`
        const paper = paperOf ? [element('small', {}, ...links(paperOf(r)))] : []
        return element(
          'tr',
          { id },
          element(
            'th',
            { scope: 'row' },
            element('a', { href: `#${id}`, className: 'name', title: 'a link to this row' }, ...breaking(nameOf(r))),
            ...paper,
          ),
          ...Object.entries(columns).map(([key, { show, words }]) =>
            element('td', { className: words ? `words of-${key}` : `of-${key}` }, show(r) || '–'),
          ),
        )
      }),
    )
    byId('shown').textContent = `${shown.length} of ${rows.length}`
  }
  const axisOf = ({ title, log = false, tick = short }: Column<R>): Axis => ({ title, log, tick })
  const drawPlot = (shown: readonly R[]): void => {
    const [cx, cy] = [columns[axes.x.value]!, columns[axes.y.value]!]
    const fine = (v: unknown, { log }: Column<R>): v is number =>
      typeof v === 'number' && Number.isFinite(v) && (!log || v > 0)
    const points = shown.flatMap((r) => {
      const [x, y] = [cx.of(r), cy.of(r)]
      if (!fine(x, cx) || !fine(y, cy)) return []
      const name = nameOf(r)
      const about = `${name}: ${cx.title} ${cx.show(r)}, ${cy.title} ${cy.show(r)}`
      return [{ name, x, y, about, own: name === page.own, href: `#row-${name}` }]
    })
    byId('plot-title').textContent = `${cy.title} against ${cx.title.toLowerCase()}`
    drawPoints(scatter, points, {
      x: axisOf(cx),
      y: axisOf(cy),
      label: `${cy.title} against ${cx.title} of ${points.length}; the table below has the figures`,
    })
  }
  const draw = (): void => {
    const shown = chosen()
    drawTable(shown)
    drawPlot(shown)
  }
  filter.addEventListener('input', draw)
  for (const select of Object.values(axes)) select.addEventListener('change', draw)
  let width = scatter.clientWidth
  new ResizeObserver(() => {
    if (width === scatter.clientWidth) return
    width = scatter.clientWidth
    drawPlot(chosen())
  }).observe(scatter)
  return (found) => {
    rows = found
    draw()
  }
}
