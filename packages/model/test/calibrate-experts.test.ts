import type { Adapter, Batch, Network } from '@weftjs/spec'
import { rng, wasm } from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { beforeAll, describe, expect, it } from 'vitest'
import { attach, calibrate, disposeSeen, initNetwork, inputsOf, type TransformerConfig } from '../src/index.ts'

const T = 6
const gpu = await hasGpuFiles()
const source = {
  ...{ model_type: 'qwen3_moe', vocab_size: 20, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2 },
  ...{ num_key_value_heads: 2, moe_intermediate_size: 8, intermediate_size: 12, head_dim: 8 },
  ...{ num_experts: 6, num_experts_per_tok: 2, max_position_embeddings: 16, initializer_range: 0.5 },
}
const network = (): Network<TransformerConfig> => initNetwork(source, rng(3))
/** two rows, of which the first places and the last carry no loss */
const batchOf = (start: number): Batch => ({
  shape: [2, T],
  ids: Int32Array.from({ length: 2 * T }, (_, i) => (start + i * 7) % 20),
  targets: Int32Array.from({ length: 2 * T }, (_, i) => (i % T < 1 || i % T === T - 1 ? -100 : (start + i) % 20)),
  positions: Int32Array.from({ length: 2 * T }, (_, i) => i % T),
  segments: new Int32Array(2 * T).fill(1),
})
const batches = [batchOf(1), batchOf(4)]
const sites = Array.from({ length: 6 }, (_, e) => ['gate', 'down'].map((p) => `blocks.1.mlp.experts.${e}.${p}`)).flat()

type Found = Record<string, { rows: number; square: number[] }>
const gathered = async (net: Network<TransformerConfig>): Promise<Found> => {
  const seen = await calibrate(net, batches, { statistics: ['square'], at: [...sites, 'blocks.1.mlp.router'] })
  const found: Found = {}
  for (const [name, s] of Object.entries(seen))
    found[name] = { rows: s.rows, square: [...(await s.get('square').data())] }
  disposeSeen(seen)
  return found
}

/** the same by what routers and experts are seen to read: token by token, on a backend where experts run apart */
const wanted = (net: Network<TransformerConfig>): Found => {
  const found: Found = {}
  for (const batch of batches) {
    let logits: number[][] = []
    const rowsOf = (data: ArrayLike<number>, width: number): number[][] =>
      Array.from({ length: data.length / width }, (_, i) => Array.from(data).slice(i * width, (i + 1) * width))
    const look: Adapter = {
      name: 'look',
      init: () => ({ state: {} }),
      around: (next, x, _, { site }) => {
        const y = next(x)
        if (site.name.endsWith('.router')) logits = rowsOf(y.dataSync(), 6)
        const e = Number(/experts\.(\d+)/.exec(site.name)?.[1] ?? -1)
        const tokens = logits.flatMap((row, t) => {
          const best = row.map((v, i) => [v, i] as const).sort((a, b) => b[0] - a[0])
          return e < 0 || best.slice(0, 2).some(([, i]) => i === e) ? [t] : []
        })
        const rows = rowsOf(x.dataSync(), x.shape.at(-1)!)
        expect(rows.length, site.name).toBe(tokens.length)
        for (const [i, t] of tokens.entries()) {
          if (batch.targets[t]! < 0) continue
          found[site.name] ??= { rows: 0, square: rows[0]!.map(() => 0) }
          const own = found[site.name]!
          own.rows++
          own.square = own.square.map((v, k) => v + rows[i]![k]! ** 2)
        }
        return y
      },
    }
    attach(net, [{ adapter: look, at: ['blocks.1.mlp.router', ...sites] }], rng(0)).forward({}, inputsOf(batch))
  }
  for (const own of Object.values(found)) own.square = own.square.map((v) => v / own.rows)
  return found
}

const mustBeSame = (found: Found, want: Found): void => {
  expect(Object.keys(found).sort()).toEqual(Object.keys(want).sort())
  for (const [name, { rows, square }] of Object.entries(want)) {
    expect(found[name]!.rows, name).toBe(rows)
    for (const [i, v] of square.entries()) expect(found[name]!.square[i], name).toBeCloseTo(v, 3)
  }
}

describe('calibrate at experts', () => {
  beforeAll(async () => {
    await wasm()
  })

  it('takes the tokens that are sent to each and carry a loss', async () => {
    const net = network()
    const want = wanted(net)
    const rows = sites.map((s) => want[s]?.rows ?? 0)
    expect(new Set(rows).size, 'experts that differ').toBeGreaterThan(2)
    expect(rows.reduce((a, b) => a + b)).toBe(2 * 2 * 16) // gate and down, two experts a token, 16 that carry a loss
    expect(want['blocks.1.mlp.router']!.rows).toBe(16)
    mustBeSame(await gathered(net), want)
  })

  it.skipIf(!gpu)(
    'on a GPU, where all tokens go through each, too',
    async () => {
      const want = wanted(network())
      await nodeWebgpu()
      mustBeSame(await gathered(network()), want)
    },
    120_000,
  )
})
