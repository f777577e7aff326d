import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Batch, Network, Statistic, Tensor, Tensor2D } from '@weftjs/spec'
import { cpu, memory, mul, rng, tidy } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { dense } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { type Calibrated, calibrate, seeing, type TransformerConfig } from '../src/index.ts'
import { calibrationFile } from '../src/node.ts'
import { fixture } from './fixture.ts'

await cpu()
const T = 8
const batchOf = (start: number, vocabulary: number): Batch => ({
  shape: [2, T],
  ids: Int32Array.from({ length: 2 * T }, (_, i) => (start + i * 5) % vocabulary),
  targets: Int32Array.from({ length: 2 * T }, (_, i) => (i % T < 2 ? -100 : (start + i * 5 + 5) % vocabulary)),
  positions: Int32Array.from({ length: 2 * T }, (_, i) => i % T),
  segments: new Int32Array(2 * T).fill(1),
})
const batchesFor = ({ config }: Network<TransformerConfig>): Batch[] =>
  [1, 7, 12].map((s) => batchOf(s, Math.min(config.vocabulary, 24)))

/** q, k, v; o; the rest but down; down: as `quantize` goes through a block */
const stagesOf = ({ weights }: Network<TransformerConfig>): string[][] => {
  const stages = new Map<string, string[]>()
  const parts = [/\.attn\.(q|k|v|qkv)$/, /\.attn\./, /\.(router|gate|up)$/, /./]
  for (const name of Object.keys(weights)) {
    const block = /^blocks\.(\d+)/.exec(name)?.[1]
    if (block === undefined) continue
    const key = `${block.padStart(3)} ${parts.findIndex((p) => p.test(name))}`
    stages.set(key, [...(stages.get(key) ?? []), name])
  }
  return [...stages.keys()].sort().map((k) => stages.get(k)!)
}
/** what stands for quantizing: other numbers, which whatever comes later has to see */
const changed = (network: Network<TransformerConfig>, names: readonly string[]): Network<TransformerConfig> => ({
  ...network,
  weights: {
    ...network.weights,
    ...Object.fromEntries(
      names.map((n, i) => [n, dense(mul(network.weights[n]!.dense(), 0.8 + 0.1 * (i % 3)) as Tensor2D)]),
    ),
  },
})
const mustBeSame = async (
  found: Readonly<Record<string, Calibrated>>,
  wanted: Readonly<Record<string, Calibrated>>,
): Promise<void> => {
  expect(Object.keys(found).sort()).toEqual(Object.keys(wanted).sort())
  for (const [name, { rows, batches, tensors }] of Object.entries(wanted)) {
    expect([found[name]!.rows, found[name]!.batches], name).toEqual([rows, batches])
    for (const [s, t] of Object.entries(tensors) as [Statistic, Tensor][]) {
      const [a, b] = [await found[name]!.get(s).data(), await t.data()]
      const most = [...b].reduce((m, v) => Math.max(m, Math.abs(v)), 1e-9)
      b.forEach((v, i) => {
        expect(Math.abs(a[i]! - v) / most, `${name} ${s}`).toBeLessThan(1e-5)
      })
    }
  }
}
/** the tables of rotary embedding stay */
const warm = async (network: Network<TransformerConfig>, batches: readonly Batch[]): Promise<void> => {
  const see = seeing(batches)
  await see(network, ['blocks.0.attn.q'], CODEC)
  see.dispose()
}
const CODEC = { calibrates: ['moment', 'magnitude'] as const }

describe('seeing', () => {
  it.each(['llama', 'gpt2', 'qwen3_moe', 'gemma2'])(
    '%s: what calibrate sees of the whole network as it is by then, block by block',
    async (family) => {
      let { network } = await fixture(family)
      const batches = batchesFor(network)
      const see = seeing(batches)
      for (const names of stagesOf(network)) {
        const found = await see(network, names, CODEC)
        await mustBeSame(found, await calibrate(network, batches, { statistics: CODEC.calibrates, at: names }))
        network = changed(network, names)
      }
      see.dispose()
    },
  )

  it('gives the same where no state has room, after a step back, and for gradients and the head', async () => {
    const first = tinyLlama(rng(1), { layers: 3 })
    const batches = batchesFor(first)
    // room for the states of one batch of three
    const see = seeing(batches, { hold: 4 * 2 * T * first.config.width })
    const same = async (network: Network<TransformerConfig>, names: readonly string[], s: readonly Statistic[]) =>
      mustBeSame(await see(network, names, CODEC, s), await calibrate(network, batches, { statistics: s, at: names }))
    await same(first, ['blocks.1.mlp.down'], ['moment'])
    await same(first, ['blocks.2.attn.o'], ['peak'])
    // a block that was passed already is another now
    const second = changed(first, ['blocks.0.attn.q'])
    await same(second, ['blocks.2.attn.o'], ['peak'])
    await same(second, ['blocks.0.attn.v'], ['mean'])
    await same(second, ['blocks.1.attn.v', 'head', 'blocks.2.mlp.up'], ['magnitude'])
    await same(second, ['blocks.1.attn.v'], ['magnitude', 'fisher'])
    see.dispose()
  })

  it('keeps the states of the batches and the newest statistics, and in the end nothing', async () => {
    const network = tinyLlama(rng(1), { layers: 3 })
    const batches = batchesFor(network)
    await warm(network, batches)
    const { numTensors } = memory()
    const see = seeing(batches)
    for (const names of stagesOf(network)) {
      await see(network, names, CODEC)
      expect(memory().numTensors).toBeLessThanOrEqual(numTensors + batches.length + 2 * names.length)
    }
    see.dispose()
    expect(memory().numTensors).toBe(numTensors)
  })

  it('says how far it is, and stops when it is told to', async () => {
    const network = tinyLlama(rng(1))
    const batches = batchesFor(network)
    await warm(network, batches)
    const { numTensors } = memory()
    const stop = new AbortController()
    const done: string[] = []
    const see = seeing(batches, {
      signal: stop.signal,
      onProgress: ({ batches, of, block, names }) => {
        done.push(`${block} ${batches}/${of} ${names.length}`)
        if (block === 1 && batches === 2) stop.abort(new Error('enough'))
      },
    })
    await see(network, ['blocks.0.attn.q', 'blocks.0.attn.k'], CODEC)
    expect(done).toEqual(['0 1/3 2', '0 2/3 2', '0 3/3 2'])
    await expect(see(network, ['blocks.1.attn.q'], CODEC)).rejects.toThrow('enough')
    expect(done.slice(3)).toEqual(['1 1/3 0', '1 2/3 0'])
    see.dispose()
    expect(memory().numTensors).toBe(numTensors)
  })

  it('reads what an earlier run has kept, unless a block before is another', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'weft-see-'))
    try {
      const network = tinyLlama(rng(1))
      const batches = batchesFor(network)
      const looks: string[] = []
      const run = async (of: Network<TransformerConfig>): Promise<Record<string, Calibrated>> => {
        const see = seeing(batches, {
          cache: (names) => calibrationFile(join(folder, `${names[0]}.safetensors`)),
          onProgress: ({ names }) => looks.push(...names),
        })
        return see(of, ['blocks.1.mlp.up'], CODEC)
      }
      const first = await run(network)
      expect(await readdir(folder)).toEqual(['blocks.1.mlp.up.safetensors'])
      expect(looks).toHaveLength(3)
      await mustBeSame(await run(network), first)
      expect(looks).toHaveLength(3)
      await expect(run(changed(network, ['blocks.0.mlp.up']))).rejects.toThrow(/is of another model/)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('needs a target, and leaves out what no token reaches', async () => {
    const { network } = await fixture('qwen3_moe')
    const [batch] = batchesFor(network)
    expect(() => seeing([{ ...batch!, targets: new Int32Array(2 * T).fill(-100) }])).toThrow(/no batch has a target/)
    // the router sends everything to the first experts
    const { count, active } = network.config.experts!
    const [E, D] = network.weights['blocks.1.mlp.router']!.shape
    const zero = tidy(() => mul(network.weights['blocks.1.mlp.router']!.dense(), 0)) as Tensor2D
    expect([E, D]).toEqual([count, network.config.width])
    const even = { ...network, weights: { ...network.weights, 'blocks.1.mlp.router': dense(zero) } }
    const names = Array.from({ length: count }, (_, e) => `blocks.1.mlp.experts.${e}.up`)
    const found = await seeing([batch!])(even, names, CODEC)
    expect(Object.keys(found)).toHaveLength(active)
  })
})
