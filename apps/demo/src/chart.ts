import './locale.ts'
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'

export interface Chart {
  add(step: number, loss: number): void
  clear(): void
}

/** weight of the past in the smoothed curve */
const SMOOTH = 0.8

/** a value under the pointer, in the legend */
const shown =
  (digits: number) =>
  (_: uPlot, value: number | null): string =>
    value === null || value === undefined ? '' : value.toFixed(digits)

/** The loss by step, raw and smoothed, drawn anew when the width or the colours of the page change. */
export const lossChart = (container: HTMLElement): Chart => {
  const steps: number[] = []
  const losses: number[] = []
  const smooth: number[] = []
  let average = 0
  let pending = 0
  const style = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
  const size = (): { width: number; height: number } => ({ width: Math.max(200, container.clientWidth), height: 256 })
  const make = (): uPlot => {
    const axis = {
      stroke: style('--quiet'),
      grid: { stroke: style('--line'), width: 1 },
      ticks: { stroke: style('--line') },
    }
    return new uPlot(
      {
        ...size(),
        scales: {
          x: { time: false, range: (_, min, max) => [Math.min(1, min ?? 0), Math.max(10, max ?? 0)] },
          y: { range: (_, min, max) => (min === null ? [0, 1] : uPlot.rangeNum(min, max, 0.1, false)) },
        },
        axes: [
          {
            ...axis,
            incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000],
            label: 'step',
            labelSize: 22,
          },
          { ...axis, label: 'loss', labelSize: 22, size: 52 },
        ],
        series: [
          { label: 'step', value: shown(0) },
          { label: 'loss', stroke: style('--faint'), width: 1, value: shown(3), points: { show: false } },
          { label: 'smoothed', stroke: style('--accent'), width: 2.5, value: shown(3), points: { show: false } },
        ],
        legend: { show: true },
        cursor: { drag: { x: false, y: false } },
      },
      [steps, losses, smooth],
      container,
    )
  }
  let plot = make()
  const draw = (): void => {
    if (pending) return
    pending = requestAnimationFrame(() => {
      pending = 0
      plot.setData([steps, losses, smooth])
      const [first, last] = [smooth[0], smooth.at(-1)]
      container.setAttribute(
        'aria-label',
        first === undefined
          ? 'Loss by step: no steps yet'
          : `Loss by step: from ${first.toFixed(2)} at step 1 to ${last!.toFixed(2)} at step ${steps.at(-1)}`,
      )
    })
  }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    plot.destroy()
    plot = make()
  })
  new ResizeObserver(() => plot.setSize(size())).observe(container)
  return {
    add: (step, loss) => {
      // the mean of what there is, until there is more than the filter remembers
      const keep = Math.min(SMOOTH, steps.length / (steps.length + 1))
      average = keep * average + (1 - keep) * loss
      steps.push(step)
      losses.push(loss)
      smooth.push(average)
      draw()
    },
    clear: () => {
      steps.length = losses.length = smooth.length = 0
      draw()
    },
  }
}
