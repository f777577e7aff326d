import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Adapter, Batch, Network, Statistic, Tensor } from '@weftjs/spec'
import { add, backprop, cpu, memory, rng, scalar } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { dense } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { attach, calibrate, inputsOf, nextToken, type TransformerConfig } from '../src/index.ts'
import { calibrationFile } from '../src/node.ts'

await cpu()
const T = 6
/** two rows; the last places, and all of `hidden`, carry no loss */
const batchOf = (start: number, hidden = 1): Batch => ({
  shape: [2, T],
  ids: Int32Array.from({ length: 2 * T }, (_, i) => (start + i * 5) % 24),
  targets: Int32Array.from({ length: 2 * T }, (_, i) =>
    i % T < hidden || i % T === T - 1 ? -100 : (start + i * 5 + 5) % 24,
  ),
  positions: Int32Array.from({ length: 2 * T }, (_, i) => i % T),
  segments: new Int32Array(2 * T).fill(1),
})
const batches = [batchOf(1), batchOf(7, 3), batchOf(12)]
const network = (): Network<TransformerConfig> => tinyLlama(rng(1))
const values = async (t: Tensor): Promise<number[]> => [...(await t.data())]
const close = (found: number[], want: number[], tolerance = 1e-5): void => {
  expect(found.length).toBe(want.length)
  const scale = Math.max(...want.map(Math.abs), 1e-9)
  expect(Math.max(...found.map((v, i) => Math.abs(v - want[i]!))) / scale).toBeLessThan(tolerance)
}

/** inputs of a site at places with a target, batch by batch, by an adapter that looks */
const inputsAt = async (net: Network<TransformerConfig>, at: string): Promise<number[][][]> => {
  const found: number[][][] = []
  for (const batch of batches) {
    let rows: number[][] = []
    const look: Adapter = {
      name: 'look',
      init: () => ({ state: {} }),
      around: (next, x) => {
        const data = x.dataSync()
        const width = x.shape.at(-1)!
        rows = Array.from({ length: data.length / width }, (_, i) => [...data.slice(i * width, (i + 1) * width)])
        return next(x)
      },
    }
    attach(net, [{ adapter: look, at }], rng(0)).forward({}, inputsOf(batch))
    found.push(rows.filter((_, i) => batch.targets[i]! >= 0))
  }
  return found
}

describe('calibrate', () => {
  it('gathers what the formulas say, over places with a target only', async () => {
    const net = network()
    const at = 'blocks.1.mlp.down'
    const seen = (await calibrate(net, batches, { statistics: ['mean', 'moment', 'scaled', 'magnitude', 'peak'], at }))[
      at
    ]!
    const perBatch = await inputsAt(net, at)
    const rows = perBatch.flat()
    const n = rows.length
    const D = rows[0]!.length
    expect(seen.rows).toBe(n)
    expect(n).toBe(2 * (4 + 2 + 4))
    expect(seen.batches).toBe(3)
    const column = (f: (values: number[]) => number): number[] =>
      Array.from({ length: D }, (_, j) => f(rows.map((r) => r[j]!)))
    const products = (rows: number[][], by: number): number[] =>
      Array.from({ length: D * D }, (_, ij) => rows.reduce((s, r) => s + r[Math.floor(ij / D)]! * r[ij % D]!, 0) / by)
    close(
      await values(seen.get('mean')),
      column((v) => v.reduce((a, b) => a + b, 0) / n),
    )
    close(
      await values(seen.get('magnitude')),
      column((v) => v.reduce((a, b) => a + Math.abs(b), 0) / n),
    )
    close(
      await values(seen.get('peak')),
      column((v) => Math.max(...v.map(Math.abs))),
    )
    close(await values(seen.get('moment')), products(rows, n))
    const scaled = perBatch.map((b) => {
      const most = Math.max(...b.flat().map(Math.abs))
      return products(
        b.map((r) => r.map((v) => v / most)),
        3,
      )
    })
    close(
      await values(seen.get('scaled')),
      scaled[0]!.map((v, i) => v + scaled[1]![i]! + scaled[2]![i]!),
    )
    expect(() => seen.get('fisher')).toThrow(/blocks\.1\.mlp\.down: .*gathered mean, .*'fisher'/)
  })

  it('gives the gradients that training the weights whole gives', async () => {
    const net = network()
    const seen = await calibrate(net, batches, { statistics: ['gradient', 'fisher'] })
    const whole = attach(net, [], rng(0), { train: Object.keys(seen) })
    const grads = batches.map((b) => backprop((p) => nextToken(whole.run(p, inputsOf(b)), b), whole.params).grads)
    expect(Object.keys(seen).length).toBe(14)
    for (const [site, s] of Object.entries(seen)) {
      const each = await Promise.all(grads.map((g) => values(g[site]!)))
      const mean = (f: (v: number) => number): number[] =>
        each[0]!.map((_, i) => each.reduce((sum, g) => sum + f(g[i]!), 0) / 3)
      expect(s.get('gradient').shape).toEqual([...net.weights[site]!.shape])
      close(
        await values(s.get('gradient')),
        mean((v) => v),
        2e-5,
      )
      close(
        await values(s.get('fisher')),
        mean((v) => v * v),
        2e-5,
      )
    }
  })

  it('looks at a tuned network as it is now', async () => {
    const net = network()
    const shifted: Adapter<{ t: Tensor }> = {
      name: 'shifted',
      init: () => ({ state: { t: scalar(0) } }),
      weight: (base, { t }) => dense(add(base.dense(), t) as never),
    }
    const tuned = attach(net, [{ adapter: shifted, at: 'blocks.0.mlp.gate' }], rng(0))
    const at = 'blocks.0.mlp.{gate,down}'
    const mean = async (model: Parameters<typeof calibrate>[0], params = {}): Promise<number[]> =>
      values((await calibrate(model, batches, { statistics: ['mean'], at, params }))['blocks.0.mlp.down']!.get('mean'))
    close(await mean(tuned, tuned.params), await mean(net))
    const moved = await mean(tuned, { 'blocks.0.mlp.gate.shifted.t': scalar(0.3) })
    const plain = await mean(net)
    expect(Math.max(...moved.map((v, i) => Math.abs(v - plain[i]!)))).toBeGreaterThan(1e-3)
  })

  it('keeps one tensor for q, k and v, and one for gate and up', async () => {
    const seen = await calibrate(network(), batches, { statistics: ['moment'] })
    const of = (site: string): Tensor => seen[`blocks.0.${site}`]!.get('moment')
    expect(of('attn.k')).toBe(of('attn.q'))
    expect(of('attn.v')).toBe(of('attn.q'))
    expect(of('mlp.up')).toBe(of('mlp.gate'))
    expect(of('mlp.down')).not.toBe(of('mlp.up'))
    expect(of('attn.q')).not.toBe(seen['blocks.1.attn.q']!.get('moment'))
  })

  it('streams: as many tensors after every batch, nothing left where it stops', async () => {
    const net = network()
    for (const statistics of [
      ['moment', 'peak'],
      ['gradient', 'mean'],
    ] as const) {
      const counts: number[] = []
      const started = memory().numTensors
      const many = (function* () {
        for (let i = 0; i < 5; i++) yield batchOf(i)
      })()
      await calibrate(net, many, { statistics, onProgress: () => void counts.push(memory().numTensors) })
      expect(new Set(counts).size).toBe(1)
      expect(counts.length).toBe(5)
      const before = memory().numTensors
      expect(before).toBeGreaterThan(started)
      const stop = new AbortController()
      const progress: unknown[] = []
      await expect(
        calibrate(net, batches, {
          statistics,
          signal: stop.signal,
          onProgress: (done) => {
            progress.push(done)
            if (done.batches === 2) stop.abort(new Error('enough'))
          },
        }),
      ).rejects.toThrow('enough')
      expect(progress).toEqual([
        { batches: 1, rows: 8, of: 3 },
        { batches: 2, rows: 12, of: 3 },
      ])
      expect(memory().numTensors).toBe(before)
    }
  })

  it('refuses what it cannot gather', async () => {
    const net = network()
    const statistics = ['mean'] as const
    await expect(calibrate(net, batches, { statistics, at: 'embed' })).rejects.toThrow(
      /embed \(embed\): multiplies by no/,
    )
    await expect(calibrate(net, batches, { statistics: ['mode' as Statistic] })).rejects.toThrow(/found 'mode'/)
    await expect(calibrate(net, [], { statistics })).rejects.toThrow(/no batch has a target/)
    await expect(calibrate(net, [batchOf(0, T)], { statistics })).rejects.toThrow(/no batch has a target/)
  })
})

describe('the file of a calibration', () => {
  it('gives back what was gathered, without a pass, and is refused for another model, data or question', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'weft-'))
    const path = join(folder, 'cache', 'seen.safetensors')
    const cache = calibrationFile(path)
    const net = network()
    const statistics = ['moment', 'gradient'] as const
    const first = await calibrate(net, batches, { statistics, cache })
    expect(await readdir(join(folder, 'cache'))).toEqual(['seen.safetensors'])
    let passes = 0
    const second = await calibrate(net, batches, { statistics, cache, onProgress: () => passes++ })
    expect(passes).toBe(0)
    expect(Object.keys(second)).toEqual(Object.keys(first))
    for (const [site, seen] of Object.entries(first)) {
      expect(second[site]!.rows).toBe(seen.rows)
      expect(second[site]!.batches).toBe(3)
      for (const s of statistics) expect(await values(second[site]!.get(s))).toEqual(await values(seen.get(s)))
    }
    expect(second['blocks.0.attn.k']!.get('moment')).toBe(second['blocks.0.attn.q']!.get('moment'))
    const bytes = await readFile(path)
    const again = { statistics, cache }
    await expect(calibrate(net, batches.slice(1), again)).rejects.toThrow(
      /seen\.safetensors.*is of other data.*delete it/,
    )
    await expect(calibrate(tinyLlama(rng(2)), batches, again)).rejects.toThrow(/is of another model/)
    await expect(calibrate(net, batches, { statistics: ['moment'], cache })).rejects.toThrow(
      /other statistics or sites/,
    )
    expect(await readFile(path)).toEqual(bytes)
    await writeFile(path, 'nonsense')
    await expect(calibrate(net, batches, again)).rejects.toThrow(/seen\.safetensors/)
    await rm(folder, { recursive: true })
  })
})
