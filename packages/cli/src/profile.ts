import { join } from 'node:path'
import type { Transform } from '@weftjs/spec'
import type { Profile, ProfileRow, Profiling } from '@weftjs/tensor'
import { writeWhole } from './files.ts'
import { print, size } from './terminal.ts'

/** Marks the parts of each training step on a profile's trace. */
export interface StepSpans {
  loss<A extends unknown[], T>(f: (...args: A) => T): (...args: A) => T
  transform<S>(t: Transform<S>): Transform<S>
  /** what is neither: validation, a checkpoint */
  during<T>(name: string, f: () => Promise<T>): Promise<T>
  /** the step is over, its loss read */
  done(): void
}

/** forward and backward (once for each batch), update, and the wait for the device; `first` is the first step's number */
export const stepSpans = (profiling: Profiling, first: number): StepSpans => {
  let step = first
  let whole: (() => void) | undefined
  let part: (() => void) | undefined
  const to = (name?: string): void => {
    whole ??= profiling.span(`step ${step}`)
    part?.()
    part = name === undefined ? undefined : profiling.span(name)
  }
  const between =
    <A extends unknown[], T>(name: string, next: string, f: (...args: A) => T) =>
    (...args: A): T => {
      to(name)
      try {
        return f(...args)
      } finally {
        to(next)
      }
    }
  return {
    loss: (f) => between('forward', 'backward', f),
    transform: (t) => ({ ...t, update: between('update', 'apply and wait', t.update.bind(t)) }),
    during: async (name, f) => {
      const end = profiling.span(name)
      try {
        return await f()
      } finally {
        end()
      }
    },
    done: () => {
      to()
      whole?.()
      whole = undefined
      step++
    },
  }
}

const count = (n: number): string => n.toLocaleString('en')
const ms = (n: number): string => n.toFixed(n < 10 ? 2 : n < 100 ? 1 : 0)
const rate = (bytes: number, milliseconds: number): string =>
  milliseconds ? `${size((bytes / milliseconds) * 1000)}/s` : ''
const HEAD = ['op / kernel', 'calls', 'ms', 'share', 'mean ms', 'read and written', '']
/** an op that ran one kernel of its own name is one line */
const single = (parts: readonly ProfileRow[]): boolean => parts.length === 1 && parts[0]!.kernel === parts[0]!.op

/** ops by the time that they took, with their kernels below each */
export const profileTable = ({ backend, clock, milliseconds, resolution, rows, leftOut }: Profile): string => {
  const ops = new Map<string, ProfileRow[]>()
  for (const row of rows) ops.set(row.op, [...(ops.get(row.op) ?? []), row])
  const sum = (parts: readonly ProfileRow[], of: 'calls' | 'milliseconds' | 'share' | 'bytes'): number =>
    parts.reduce((n, r) => n + r[of], 0)
  const line = (name: string, parts: readonly ProfileRow[], isOp: boolean): string[] => {
    const [calls, time] = [sum(parts, 'calls'), sum(parts, 'milliseconds')]
    const bytes = sum(parts, 'bytes')
    const rest =
      isOp && !single(parts)
        ? ['', '', '']
        : [ms(time / calls), bytes ? size(bytes) : '', bytes ? rate(bytes, time) : '']
    return [name, count(calls), ms(time), `${(100 * sum(parts, 'share')).toFixed(1)}%`, ...rest]
  }
  const body = [...ops]
    .sort((a, b) => sum(b[1], 'milliseconds') - sum(a[1], 'milliseconds'))
    .flatMap(([op, parts]) => [
      line(op, parts, true),
      ...(single(parts) ? [] : parts.map((r) => line(`  ${r.kernel}`, [r], false))),
    ])
  const total = sum(rows, 'milliseconds')
  const cells = [HEAD, ...body]
  const widths = HEAD.map((_, i) => Math.max(...cells.map((c) => c[i]?.length ?? 0)))
  const drawn = cells.map((c) =>
    c
      .map((v, i) => (i ? v.padStart(widths[i]! + 2) : v.padEnd(widths[i]!)))
      .join('')
      .trimEnd(),
  )
  const by =
    clock === 'device'
      ? "the GPU's timestamps"
      : backend === 'webgpu'
        ? 'this thread alone, as this GPU has no timestamps: the time to record, not to run'
        : "this thread's clock"
  return [
    ...drawn,
    '',
    `${ms(total)} ms in ${count(sum(rows, 'calls'))} kernels of ${ms(milliseconds)} ms in all (${((100 * total) / milliseconds).toFixed(0)}%), on ${backend}, by ${by}`,
    ...(clock === 'device' && (resolution ?? 0) >= 0.01
      ? [`the GPU's clock goes in steps of ${resolution} ms here: short kernels are rounded`]
      : []),
    ...(leftOut
      ? [`${count(leftOut)} later events are counted here and not in the trace; train fewer steps to see all`]
      : []),
  ].join('\n')
}

/** Prints the table and writes the trace into a folder. → the file's name */
export const writeProfile = async (profile: Profile, out: string, quiet: boolean): Promise<string> => {
  const { trace, rows, backend, clock, milliseconds } = profile
  await writeWhole(
    join(out, 'profile.json'),
    JSON.stringify({ ...trace, metadata: { backend, clock, milliseconds, rows } }),
  )
  if (!quiet) print(profileTable(profile))
  return 'profile.json'
}
