import { existsSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { Disturbed, judge, type MeasureOptions, measure } from '../../bench/harness/measure.ts'
import { names } from '../../bench/harness/names.ts'
import { nearest } from '../../bench/harness/nearest.ts'
import { missingPeer } from '../../bench/harness/peers.ts'
import { digits, summary, text } from '../../bench/harness/report.ts'
import { beside, peak } from '../../bench/harness/rows.ts'
import { disagreement, median, ratios, rowOf, spread } from '../../bench/harness/stats.ts'
import type { Match, Ran, Report, Side } from '../../bench/harness/types.ts'
import { adaptersOf, SMALL, SMOL, tensorsOf, valuesOf } from '../../bench/sides/shape.ts'
import { rowsOf } from '../bench-table.ts'

const ran = (label: string, ms: number[], more: Partial<Ran> = {}): Ran => ({
  ...{ label, units: ms.map((ms) => ({ ms })), peak: 1e6, checks: [], facts: {} },
  ...more,
})
const side = (label: string, options: object, more: Partial<Side> = {}): Side => ({
  ...{ label, script: 'fake.ts', options: options as Record<string, unknown> },
  ...more,
})
const row = beside('a peer', 'ours', 'theirs')
const match = (ours: object, theirs: object, more: Partial<Match> = {}, needs: Side['needs'] = []): Match => ({
  sides: { ours: side('Ours', ours), theirs: side('Theirs', theirs, { needs: needs! }) },
  rows: [row('ms', (u) => u.ms, 'less', { goal: 2 }), row('peak', peak, 'less')],
  rounds: 3,
  ...more,
})
const options: MeasureOptions = { threads: 1, anyway: true, pause: 0 }

describe('arithmetic', () => {
  it('medians and spreads', () => {
    expect(median([3, 1, 2])).toBe(2)
    expect(median([4, 1, 2, 3])).toBe(2.5)
    expect(() => median([])).toThrow(/no values/)
    expect(spread([2, 9, 4])).toEqual({ median: 4, min: 2, max: 9 })
  })

  it('a ratio above 1 is better for us, of more and of less', () => {
    expect(ratios([10, 20], [20, 20], 'less')).toEqual([2, 1])
    expect(ratios([10, 20], [20, 20], 'more')).toEqual([0.5, 1])
  })

  it('the ratio is the median of the pairs, not of the medians', () => {
    // a machine that slows down evenly: each pair says 2, whatever the medians say
    const both = { ours: ran('a', [1, 10, 100]), theirs: ran('b', [2, 20, 200]) }
    expect(
      rowOf(
        row('ms', (u) => u.ms, 'less', { goal: 2 }),
        both,
      ),
    ).toMatchObject({
      ratio: { median: 2, min: 2, max: 2 },
      holds: true,
    })
    const uneven = { ours: ran('a', [1, 1, 4]), theirs: ran('b', [4, 1, 1]) }
    expect(
      rowOf(
        row('ms', (u) => u.ms, 'less', { goal: 1.01 }),
        uneven,
      ),
    ).toMatchObject({
      ratio: { median: 1, min: 0.25, max: 4 },
      holds: false,
    })
  })

  it('a goal of memory is a ratio as well: at most 0.6 of theirs', () => {
    const goal = 1 / 0.6
    const of = (ours: number): unknown =>
      rowOf(row('peak', peak, 'less', { goal }), {
        ours: ran('a', [1], { peak: ours }),
        theirs: ran('b', [1], { peak: 10e6 }),
      }).holds
    expect([of(6e6), of(6.1e6)]).toEqual([true, false])
  })

  it('sides that compute something else are told apart', () => {
    const a = ran('a', [1], { checks: [12.5, 12.1] })
    expect(disagreement(a, ran('b', [1], { checks: [12.501, 12.1] }), 1e-3)).toBeUndefined()
    expect(disagreement(a, ran('b', [1], { checks: [12.5, 12.2] }), 1e-3)).toMatch(/unit 2: a computes 12.1, b 12.2/)
    expect(disagreement(a, ran('b', [1], { checks: [Number.NaN] }), 1e-3)).toMatch(/unit 1/)
    expect(disagreement(a, ran('b', [1]), 1e-3)).toMatch(/nothing to be compared/)
  })

  it('names that are near, digits that count', () => {
    expect(nearest('lora', names())[0]).toMatch(/lora/)
    expect(nearest('gemn', names())[0]).toBe('gemm')
    expect([0, 1234.5, 12.34, 1.234, 0.01234].map(digits)).toEqual(['0', '1235', '12.3', '1.23', '0.012'])
  })
})

it('a side that is compiled first says the same, without the loader of TypeScript', async () => {
  const sides = {
    ours: side('Ours', { ms: 1, check: 3 }, { compiled: true }),
    theirs: side('Theirs', { ms: 1, check: 3 }),
  }
  const { ran, missing } = await measure({ sides, rows: [row('peak', peak, 'less')], rounds: 1 }, options)
  expect(missing).toEqual({})
  expect(ran['ours']!.checks).toEqual(ran['theirs']!.checks)
  expect(ran['ours']!.peak).toBeLessThan(ran['theirs']!.peak)
})

describe('what disturbs', () => {
  it('is time of others: a tenth of a core, and more than the ticks of the clock', () => {
    expect(judge({ busy: 2000, own: 1990, wall: 1000 })).toBe(0)
    expect(judge({ busy: 2000, own: 1500, wall: 1000 })).toBeCloseTo(0.5)
    expect(judge({ busy: 25, own: 0, wall: 100 })).toBe(0)
  })

  it('refuses, and says who', async () => {
    const busy = { ...options, anyway: false, repeats: 2, foreign: () => 0.7 }
    const refused = measure(match({ ms: 1 }, { ms: 1 }), busy)
    await expect(refused).rejects.toBeInstanceOf(Disturbed)
    await expect(refused).rejects.toThrow(/0\.70 cores while Ours.*--anyway/s)
  })

  it('repeats a unit that was disturbed, and marks what somebody wants to see anyway', async () => {
    let n = 0
    const once = { ...options, anyway: false, foreign: () => (n++ === 3 ? 0.5 : 0) }
    const quiet = await measure(match({ ms: 1 }, { ms: 2 }), once)
    expect(quiet.disturbed).toBe(false)
    // unit 1 is the warm-up; the second timed one of theirs was thrown away
    const counts = quiet.ran['theirs']!.units.map((u) => u['count'])
    expect(counts).toEqual([3, 4, 5])
    expect(await measure(match({ ms: 1 }, { ms: 2 }), { ...options, foreign: () => 1 })).toMatchObject({
      disturbed: true,
    })
  })
})

describe('sides in turn', () => {
  it('compares two processes, and tells their peaks', async () => {
    const { rows, ran, missing } = await measure(
      match({ ms: 5, check: 1, says: 'chatter' }, { ms: 20, check: 1 }, { agree: 0 }),
      options,
    )
    expect(missing).toEqual({})
    expect(rows[0]).toMatchObject({ ratio: { median: 4 }, holds: true, ours: { median: 5 }, theirs: { median: 20 } })
    expect(ran['ours']!.checks).toHaveLength(4)
    expect(ran['ours']!.peak).toBeGreaterThan(2e7)
    expect(rows[1]!.ratio!.median).toBeGreaterThan(0.5)
  })

  it('does not compare what differs', async () => {
    const { rows } = await measure(match({ ms: 1, check: 1 }, { ms: 9, check: 1.5 }, { agree: 1e-2 }), options)
    expect(rows[0]).toMatchObject({
      ratio: null,
      holds: null,
      missing: expect.stringMatching(/Ours computes 1, Theirs 1.5/),
    })
  })

  it('a peer that is not there, or that fails, is a row that says why', async () => {
    const absent = await measure(match({ ms: 1 }, { ms: 1 }, {}, ['torch']), { ...options, python: '/no/such/python' })
    expect(absent.rows[0]).toMatchObject({ ours: { median: 1 }, theirs: null, ratio: null, holds: null })
    expect(absent.rows[0]!.missing).toMatch(/torch is not installed; run: npm run bench:peers/)
    const broken = await measure(match({ ms: 1 }, { ms: 1, fails: 3 }), options)
    expect(broken.rows[0]).toMatchObject({
      theirs: null,
      missing: expect.stringMatching(/Theirs: ended by itself.*unit 3 fails as told/s),
    })
    expect(broken.ran['ours']!.units).toHaveLength(3)
  })
})

describe('reports', () => {
  const report: Report = {
    ...{ name: 'toy', question: 'which?', date: '2026-01-02T00:00:00Z', machine: 'a machine', threads: 2 },
    ...{ load: [0, 1], disturbed: false, sides: [] },
    rows: [
      rowOf(
        row('ms', (u) => u.ms, 'less', { goal: 2 }),
        { ours: ran('a', [1]), theirs: ran('b', [3]) },
      ),
      rowOf(
        row('ms', (u) => u.ms, 'less', { goal: 2 }),
        { ours: ran('a', [1]) },
        { theirs: 'not installed; run it' },
      ),
    ],
  }
  it('as one line of JSON', () => {
    expect(JSON.parse(JSON.stringify(summary(report)))).toEqual({
      ...{ name: 'toy', machine: 'a machine', load: [0, 1] },
      rows: [
        { peer: 'a peer', metric: 'ms', ours: 1, theirs: 3, ratio: 3, goal: 2, holds: true },
        {
          ...{ peer: 'a peer', metric: 'ms', ours: 1, theirs: null, ratio: null, goal: 2, holds: null },
          missing: 'not installed; run it',
        },
      ],
    })
  })
  it('as text and as rows of the README', () => {
    expect(text(report)).toMatch(/a peer: ms +1 +3 +3x +goal 2x, holds/)
    expect(text(report)).toMatch(/! a peer: not installed; run it/)
    expect(rowsOf([report]).map((r) => r[5])).toEqual(['3 (3 to 3)', 'not measured'])
  })
})

describe('what all sides build', () => {
  it('has the sizes that the questions name', () => {
    const size = (s: typeof SMOL): number =>
      tensorsOf(s).reduce((n, [, shape]) => n + shape.reduce((a, b) => a * b, 1), 0)
    expect(size(SMOL)).toBe(134_515_008)
    expect(size(SMALL)).toBe(25_171_456)
    expect(adaptersOf(SMOL, 8)).toHaveLength(60)
  })

  it('has values that do not depend on the language', () => {
    // as bench/sides/common.py makes them
    const values = valuesOf('model.layers.0.self_attn.q_proj.weight', [4, 64])
    expect([...values.subarray(0, 3)].map((v) => v.toFixed(6))).toEqual(['0.180816', '-0.121103', '-0.033927'])
    const deviation = Math.sqrt(values.reduce((s, v) => s + v * v, 0) / values.length)
    expect(deviation).toBeCloseTo(1 / 8, 2)
    expect(new Set(valuesOf('model.norm.weight', [8]))).toEqual(new Set([1]))
  })

  it('missing peers are named with their remedy', () => {
    if (!existsSync('.cache/peers')) expect(missingPeer(['tfjs'])).toMatch(/tfjs.*npm run bench:peers/)
    expect(missingPeer([])).toBeUndefined()
  })
})
