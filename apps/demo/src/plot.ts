/** Points of two figures, each named where there is room; the width is that of the page. */
import { element } from './form.ts'

export interface Axis {
  readonly title: string
  readonly log: boolean
  /** a number on the axis */
  readonly tick: (value: number) => string
}
export interface Point {
  readonly name: string
  readonly x: number
  readonly y: number
  /** the whole of it, for a pointer that rests there */
  readonly about: string
  /** drawn larger, and named first */
  readonly own: boolean
  readonly href: string
}

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

/** round numbers from least to most, at most `room` or so */
export const ticks = (least: number, most: number, log: boolean, room = 7): number[] => {
  if (log) {
    const [from, to] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))]
    const powers = Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i))
    const within = (values: readonly number[]): number[] => values.filter((v) => v >= least && v <= most)
    const wide = within(powers)
    if (wide.length > 2) return wide.filter((_, i) => i % Math.ceil(wide.length / room) === 0)
    const fine = within(powers.flatMap((p) => [1, 2, 5].map((n) => n * p)))
    return fine.length > 2 ? fine : within(powers.flatMap((p) => [1, 1.5, 2, 3, 5, 7].map((n) => n * p)))
  }
  const step = 10 ** Math.floor(Math.log10((most - least) / 3))
  const wide = [1, 2, 5, 10].map((n) => n * step).find((s) => (most - least) / s <= room) ?? 10 * step
  const first = Math.ceil(least / wide)
  return Array.from({ length: room + 2 }, (_, i) => (first + i) * wide).filter((v) => v <= most)
}

const scaleOf = (values: readonly number[], log: boolean, from: number, to: number) => {
  const f = log ? Math.log10 : (v: number): number => v
  const g = log ? (v: number): number => 10 ** v : (v: number): number => v
  const ends = [f(Math.min(...values)), f(Math.max(...values))] as const
  const room = (ends[1] - ends[0] || 1) * 0.06
  const [lo, hi] = [ends[0] - room, ends[1] + room]
  return { at: (v: number): number => from + ((f(v) - lo) / (hi - lo)) * (to - from), ends: [g(lo), g(hi)] as const }
}

interface Box {
  readonly x: number
  readonly y: number
  readonly w: number
  readonly h: number
}
const overlap = (a: Box, b: Box): boolean => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h

/** letters of a name are about so wide and high */
const [LETTER, LINE] = [6.3, 13]

/** where a name goes beside its dot without covering another name or dot, or nowhere */
const placeOf = (
  name: string,
  [x, y]: readonly [number, number],
  taken: readonly Box[],
  inside: Box,
): { box: Box; anchor: string } | undefined => {
  const w = name.length * LETTER
  const tries = [
    { box: { x: x + 8, y: y - LINE / 2, w, h: LINE }, anchor: 'start' },
    { box: { x: x - 8 - w, y: y - LINE / 2, w, h: LINE }, anchor: 'end' },
    { box: { x: x - w / 2, y: y - 8 - LINE, w, h: LINE }, anchor: 'middle' },
    { box: { x: x - w / 2, y: y + 8, w, h: LINE }, anchor: 'middle' },
  ]
  return tries.find(
    ({ box }) =>
      box.x >= inside.x &&
      box.x + box.w <= inside.x + inside.w &&
      box.y >= inside.y &&
      box.y + box.h <= inside.y + inside.h &&
      !taken.some((t) => overlap(t, box)),
  )
}

/** Draws the points into a container, as wide as it is. */
export const drawPoints = (
  container: HTMLElement,
  points: readonly Point[],
  { x, y, label }: { readonly x: Axis; readonly y: Axis; readonly label: string },
): void => {
  if (!points.length) {
    container.replaceChildren(element('p', {}, 'None of these has both figures.'))
    return
  }
  const W = Math.max(280, container.clientWidth)
  const H = W < 600 ? 380 : 460
  const [left, right, top, bottom] = [62, 12, 12, 44]
  const sx = scaleOf(
    points.map((p) => p.x),
    x.log,
    left,
    W - right,
  )
  const sy = scaleOf(
    points.map((p) => p.y),
    y.log,
    H - bottom,
    top,
  )
  const text = (at: Readonly<Record<string, string | number>>, content: string): SVGElement =>
    svg('text', { class: 'tick', ...at }, content)
  const lines = [
    ...ticks(...sx.ends, x.log, W < 600 ? 4 : 7).flatMap((v) => [
      svg('line', { x1: sx.at(v), x2: sx.at(v), y1: top, y2: H - bottom, class: 'grid' }),
      text({ x: sx.at(v), y: H - bottom + 18, 'text-anchor': 'middle' }, x.tick(v)),
    ]),
    ...ticks(...sy.ends, y.log).flatMap((v) => [
      svg('line', { x1: left, x2: W - right, y1: sy.at(v), y2: sy.at(v), class: 'grid' }),
      text({ x: left - 8, y: sy.at(v) + 4, 'text-anchor': 'end' }, y.tick(v)),
    ]),
    text({ x: (left + W - right) / 2, y: H - 6, 'text-anchor': 'middle' }, x.title),
    text({ x: 12, y: H / 2, transform: `rotate(-90 12 ${H / 2})`, 'text-anchor': 'middle' }, y.title),
  ]
  const placed = points.map((p) => ({ ...p, px: sx.at(p.x), py: sy.at(p.y) }))
  const taken: Box[] = placed.map(({ px, py }) => ({ x: px - 5, y: py - 5, w: 10, h: 10 }))
  const inside = { x: left, y: 0, w: W - left, h: H - bottom }
  const names: SVGElement[] = []
  const dots: SVGElement[] = []
  for (const p of [...placed].sort((a, b) => Number(b.own) - Number(a.own))) {
    const dot = svg('circle', { cx: p.px, cy: p.py, r: p.own ? 6 : 4.5, class: p.own ? 'dot own' : 'dot' })
    // the table is what a keyboard goes through
    dots.unshift(svg('a', { href: p.href, tabindex: -1 }, dot, svg('title', {}, p.about)))
    // the one that the others are seen beside has its name in any case
    const place =
      placeOf(p.name, [p.px, p.py], taken, inside) ?? (p.own ? placeOf(p.name, [p.px, p.py], [], inside) : undefined)
    if (!place) continue
    taken.push(place.box)
    const { box, anchor } = place
    const at = anchor === 'start' ? box.x : anchor === 'end' ? box.x + box.w : box.x + box.w / 2
    names.push(svg('text', { x: at, y: box.y + LINE - 3, class: 'name', 'text-anchor': anchor }, p.name))
  }
  container.replaceChildren(
    svg('svg', { viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-label': label }, ...lines, ...dots, ...names),
  )
}
