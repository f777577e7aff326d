import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Profile } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { profileTable } from '../src/profile.ts'
import { losses, project, weft } from './weft.ts'

interface Event {
  readonly name: string
  readonly ph: string
  readonly tid: number
  readonly ts: number
  readonly dur: number
  readonly args?: { name?: string; span?: boolean }
}
const traceOf = async (folder: string): Promise<{ traceEvents: Event[]; metadata: { rows: Profile['rows'] } }> =>
  JSON.parse(await readFile(join(folder, 'out/profile.json'), 'utf8'))

describe('--profile', () => {
  it('prints a table by op and writes a trace of steps and kernels; the losses are those without it', async () => {
    const folder = await project({ train: { steps: 3, batch: 2, length: 12, lr: 1e-3, accumulate: 2 } })
    const run = (...more: string[]) => weft(['finetune', join(folder, 'run.yaml'), '--backend', 'wasm', ...more])
    expect((await run()).code).toBe(0)
    expect(existsSync(join(folder, 'out/profile.json'))).toBe(false)
    const plain = await losses(join(folder, 'out'))
    const { code, out, err } = await run('--profile')
    expect({ code, err }).toMatchObject({ code: 0 })
    expect(await losses(join(folder, 'out'))).toEqual(plain)
    expect(out).toMatch(/^op \/ kernel +calls +ms +share +mean ms +read and written\n/)
    for (const op of ['CrossEntropy', 'RmsNorm', 'Attention', 'Attention gradient'])
      expect(out).toMatch(new RegExp(`^${op} +\\d+ +[\\d.]+ +[\\d.]+%`, 'm'))
    expect(out).toMatch(/ms in [\d,]+ kernels of [\d.]+ ms in all \(\d+%\), on wasm, by this thread's clock/)
    const { traceEvents, metadata } = await traceOf(folder)
    const steps = traceEvents.filter((e) => /^step/.test(e.name))
    expect(steps.map((e) => e.name)).toEqual(['step 1', 'step 2', 'step 3'])
    const inside = (outer: Event, e: Event): boolean => e.ts >= outer.ts && e.ts + e.dur <= outer.ts + outer.dur + 0.002
    for (const step of steps) {
      const parts = traceEvents.filter((e) => e.args?.span && e !== step && inside(step, e)).map((e) => e.name)
      expect(parts).toEqual(['forward', 'backward', 'forward', 'backward', 'update', 'apply and wait'])
      const [forward] = traceEvents.filter((e) => e.name === 'forward' && inside(step, e)) as [Event]
      expect(traceEvents.some((e) => e.name === 'CrossEntropy' && inside(forward, e))).toBe(true)
    }
    expect(traceEvents.some((e) => e.name === 'checkpoint')).toBe(true)
    // every event is a span with numbers, or names a track
    for (const e of traceEvents)
      expect(e.ph === 'X' ? e.ts >= 0 && e.dur >= 0 : e.ph === 'M' && Boolean(e.args?.name)).toBe(true)
    expect(metadata.rows.find((r) => r.op === 'CrossEntropy' && r.kernel === 'CrossEntropy')!.calls).toBe(6)
  })

  it('is said in JSON, where no table is printed, and is written where a run is stopped', async () => {
    const folder = await project()
    const args = ['finetune', join(folder, 'run.yaml'), '--backend', 'cpu', '--profile', '--json']
    let sent = false
    const { code, out } = await weft(args, (text) => {
      if (sent || !text.includes(' 2/')) return
      sent = true
      process.emit('SIGINT')
    })
    expect(code).toBe(130)
    expect(JSON.parse(out)).toMatchObject({ steps: 2, interrupted: true, profile: 'profile.json' })
    expect((await traceOf(folder)).traceEvents.filter((e) => /^step/.test(e.name))).toHaveLength(2)
  })

  it('says what its clock is worth', () => {
    const profile: Profile = {
      backend: 'webgpu',
      clock: 'device',
      milliseconds: 20,
      resolution: 0.1,
      leftOut: 1234,
      trace: { displayTimeUnit: 'ms', traceEvents: [] },
      rows: [
        { op: 'Linear', kernel: 'matmul', calls: 2, milliseconds: 3, share: 0.3, bytes: 6e6 },
        { op: 'Norm', kernel: 'b', calls: 1, milliseconds: 2.5, share: 0.25, bytes: 0 },
        { op: 'Norm', kernel: 'a', calls: 1, milliseconds: 4.5, share: 0.45, bytes: 0 },
      ],
    }
    const lines = profileTable(profile)
      .split('\n')
      .map((l) => l.replace(/ {2,}/g, '  '))
    expect(lines).toEqual([
      'op / kernel  calls  ms  share  mean ms  read and written',
      'Norm  2  7.00  70.0%',
      '  b  1  2.50  25.0%  2.50',
      '  a  1  4.50  45.0%  4.50',
      'Linear  2  3.00  30.0%',
      '  matmul  2  3.00  30.0%  1.50  6.0 MB  2.0 GB/s',
      '',
      "10.0 ms in 4 kernels of 20.0 ms in all (50%), on webgpu, by the GPU's timestamps",
      "the GPU's clock goes in steps of 0.1 ms here: short kernels are rounded",
      '1,234 later events are counted here and not in the trace; train fewer steps to see all',
    ])
    expect(profileTable({ ...profile, clock: 'wall' })).toContain('the time to record, not to run')
  })
})
