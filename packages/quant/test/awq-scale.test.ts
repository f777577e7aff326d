import { readFile } from 'node:fs/promises'
import { prepare, text } from '@weftjs/data'
import { lora } from '@weftjs/lora'
import { loadMini } from '@weftjs/mini'
import { attach, inputsOf, loadNetwork, nextToken, seeing } from '@weftjs/model'
import { adamw, train } from '@weftjs/optim'
import type { Adapter, Batch, Codec, Network, Params, Scalar, Tensor, Tensor2D } from '@weftjs/spec'
import {
  div,
  exp,
  keep,
  linear,
  logSoftmax,
  matMul,
  memory,
  mul,
  reshape,
  rng,
  silu,
  square,
  sub,
  sum,
  tidy,
  transpose,
  wasm,
} from '@weftjs/tensor'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { tinyLlama } from '@weftjs/testkit'
import { beforeAll, describe, expect, it } from 'vitest'
import { awq } from '../src/awq.ts'
import { hqq } from '../src/hqq.ts'
import { quantize } from '../src/quantize.ts'
import { awqClipped, awqScale, outputError } from '../src/solve/awq.ts'

beforeAll(async () => {
  await wasm()
})

const batchOf = (vocabulary: number, seed: number, [B, T]: [number, number] = [4, 16]): Batch => {
  const draw = (key: string): Int32Array =>
    Int32Array.from(
      rng(seed)
        .fork(key)
        .numbers(B * T),
      (v) => Math.floor(v * vocabulary),
    )
  return {
    shape: [B, T],
    ids: draw('ids'),
    targets: draw('targets'),
    positions: Int32Array.from({ length: B * T }, (_, i) => i % T),
    segments: new Int32Array(B * T).fill(1),
  }
}
const logitsOf = (network: Network<any>, batch: Batch): Float32Array =>
  tidy(() => {
    const { hidden, head } = attach(network, [], rng(0)).run({}, inputsOf(batch))
    return (network.config.output === 'causal' ? head(hidden) : hidden).dataSync() as Float32Array
  })
const farthest = (a: Float32Array, b: Float32Array): number =>
  a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i]!)), 0)
const models = new URL('../../testkit/fixtures/models/', import.meta.url).pathname

describe('awqScale', () => {
  it.each([
    ['llama', 4],
    ['llama-biased', 4],
    ['mistral', 4],
    ['qwen2', 4],
    ['qwen3', 4],
    ['gemma', 4],
    ['gemma2', 4],
    ['gemma3_text', 4],
    ['gpt2', 3],
    ['mixtral', 2],
    ['bert', 1],
  ])('%s: the network gives what it gave, and what cannot be scaled is named', async (name, places) => {
    const network = await loadNetwork(nodeFolder(models + name))
    const see = seeing([batchOf(network.config.vocabulary, 1)])
    const batch = batchOf(network.config.vocabulary, 2)
    const a = logitsOf(network, batch) // rotary tables stay
    const before = memory().numTensors
    const found = await awqScale(network, see, { codec: awq({ group: -1 }) })
    see.dispose()
    const changed = Object.values(found.network.weights).filter((w) => !Object.values(network.weights).includes(w))
    const moved = Object.values(found.network.vectors).filter((v) => !Object.values(network.vectors).includes(v))
    expect(memory().numTensors).toBe(before + changed.length + moved.length)
    const b = logitsOf(found.network, batch)
    expect(
      farthest(a, b) /
        Math.max(
          1,
          farthest(
            a,
            a.map(() => 0),
          ),
        ),
    ).toBeLessThan(1e-4)
    expect(found.scaled).toHaveLength(places * network.config.layers)
    expect(found.scaled.filter((s) => s.ratio !== undefined).length).toBeGreaterThan(found.scaled.length / 2)
    for (const { plain, loss } of found.scaled) expect(loss).toBeLessThanOrEqual(plain)
    const why = [...new Set(found.left.map((l) => l.why))]
    if (name === 'gpt2') expect(why).toEqual(['gelu_tanh comes before it'])
    else if (name === 'mixtral') expect(why).toEqual(['each expert reads what it is sent'])
    else if (name === 'bert') expect(why).toContain('what it reads goes on beside the block too')
    else expect(why).toEqual([])
  })

  it('with the exponent 0 alone and without sizes of weights it is plain rounding', async () => {
    const network = tinyLlama(rng(1))
    const see = seeing([batchOf(24, 1)])
    const found = await awqScale(network, see, { codec: awq({ group: 8 }), grid: 1, duo: false })
    see.dispose()
    expect(found.scaled.every((s) => s.ratio === undefined && s.loss === s.plain)).toBe(true)
    for (const [name, w] of Object.entries(found.network.weights)) expect(w).toBe(network.weights[name])
  })

  it('says what it cannot do', async () => {
    const network = tinyLlama(rng(1))
    const see = seeing([batchOf(24, 1)])
    const codec = awq({ group: 8 })
    await expect(awqScale(network, see, { codec, at: 'layers.*' })).rejects.toThrow('no weight matches "layers.*"')
    await expect(awqScale(network, see, { codec, grid: 0 })).rejects.toThrow('grid must be a whole number')
    await expect(awqScale(network, async () => ({}), { codec })).rejects.toThrow(
      'blocks.0.attn.q: the calibration pass did not reach it',
    )
    await expect(awqScale(await quantize(network, codec), see, { codec })).rejects.toThrow("is in format 'awq' already")
    await expect(awqScale({ ...network, config: {} as typeof network.config }, see)).rejects.toThrow("has no 'layers'")
    await expect(awqScale(network, see)).rejects.toThrow('rows of 16 numbers are no multiple of the group of 128')
    see.dispose()
  })

  it('counts the error of outputs from the second moment as samples give it', () => {
    const [x, delta] = [rng(1).normal([50, 12]), rng(2).normal([7, 12])]
    const moment = div(matMul(transpose(x), x), 50)
    const samples = sum(square(linear(x, delta))).dataSync()[0]! / 50
    expect(outputError(delta, moment).dataSync()[0]! / samples).toBeCloseTo(1, 5)
  })
})

const voice = async (seed: number, batches: number): Promise<{ network: Network<any>; data: Batch[] }> => {
  const { network, tokenizer } = await loadMini()
  const rows = text(await readFile(new URL('../../../examples/data/voice.txt', import.meta.url)))
  const made = prepare(rows, { format: 'text', tokenizer, length: 64, batch: 4, rng: rng(seed) })
  const data: Batch[] = []
  for await (const b of made.batches()) if (data.push(b) === batches) break
  return { network, data }
}
/** KL of what a network says next to what `whole` says, the mean over all tokens */
const klOf = (whole: Network<any>, network: Network<any>, data: readonly Batch[]): number => {
  const says = (n: Network<any>, b: Batch): Tensor => {
    const { hidden, head } = attach(n, [], rng(0)).run({}, inputsOf(b))
    return logSoftmax(head(hidden))
  }
  const all = data.map((b) =>
    tidy(() => {
      const [p, q] = [says(whole, b), says(network, b)]
      return sum(mul(exp(p), sub(p, q))).dataSync()[0]! / b.ids.length
    }),
  )
  return all.reduce((a, v) => a + v, 0) / all.length
}

describe('on mini', () => {
  it('the outputs of scaled matrices are nearer than those of plain rounding, over three seeds', async () => {
    const lines: string[] = []
    const kls: Record<string, number> = {}
    for (const seed of [0, 1, 2]) {
      const { network, data } = await voice(seed, 8)
      const see = seeing(data.slice(0, 4))
      const found = await awqScale(network, see)
      const [plain, loss] = [0, 0].map((_, k) => found.scaled.reduce((n, s) => n + (k ? s.loss : s.plain), 0)) as [
        number,
        number,
      ]
      expect(found.left).toEqual([])
      expect(loss).toBeLessThan(plain)
      const test = data.slice(4)
      const packs = {
        rounded: await quantize(network, awq()),
        clipped: await quantize(network, awqClipped(), { see }),
        scaled: await quantize(found.network, awq()),
        both: await quantize(found.network, awqClipped(), { see }),
      }
      see.dispose()
      const all = Object.entries(packs).map(([name, n]) => [name, klOf(network, n, test)] as const)
      for (const [name, kl] of all) kls[name] = (kls[name] ?? 0) + kl / 3
      const said = all.map(([name, kl]) => `${name} ${kl.toFixed(5)}`).join(', ')
      lines.push(`seed ${seed}: Σ E‖ΔW·x‖² ${plain.toFixed(1)} → ${loss.toFixed(1)}; KL to the whole model ${said}`)
    }
    process.stdout.write(`\nawq on mini, groups of 128\n${lines.join('\n')}\n`)
    expect(kls['both']!).toBeLessThan(kls['rounded']!)
  }, 600_000)

  it('the exponent that the sum over gate and up finds serves the output of the MLP, too', async () => {
    const { network, data } = await voice(3, 2)
    let x: Tensor | undefined
    const catcher: Adapter = {
      name: 'catch',
      init: () => ({ state: {} }),
      around: (next, h) => {
        x?.dispose()
        x = keep(reshape(h, [-1, 256]))
        return next(h)
      },
    }
    tidy(() => {
      attach(network, [{ adapter: catcher, at: 'blocks.1.mlp' }], rng(0)).run({}, inputsOf(data[0]!))
    })
    const see = seeing([data[0]!])
    const { network: scaled, scaled: list } = await awqScale(network, see, { at: 'blocks.1.mlp.{gate,up}' })
    see.dispose()
    expect(list.map((s) => s.into)).toEqual(['blocks.1.norm2'])
    const mlp = (n: Network<any>, packs: boolean, x: Tensor): Tensor => {
      const codec = awq() as Codec
      const of = (name: string): Tensor2D => {
        const w = n.weights[`blocks.1.mlp.${name}`]!.dense()
        return packs ? codec.decode(codec.encode(w), w.shape) : w
      }
      return linear(
        mul(silu(linear(x, of('gate'))), linear(x, of('up'))),
        network.weights['blocks.1.mlp.down']!.dense(),
      )
    }
    const errors = tidy(() => {
      // by how much norm2 was divided
      const s = div(network.vectors['blocks.1.norm2']!, scaled.vectors['blocks.1.norm2']!)
      const want = mlp(network, false, x!)
      return [mlp(network, true, x!), mlp(scaled, true, div(x!, s))].map(
        (y) => sum(square(sub(y, want))).dataSync()[0]!,
      )
    })
    expect(errors[1]!).toBeLessThan(errors[0]!)
    x?.dispose()
  })
})

describe.each<[string, Codec<any>]>([
  ['awq', awq({ group: 16 })],
  ['hqq', hqq({ group: 16 })],
])('a base in %s', (_, codec) => {
  it('is tuned with LoRA', async () => {
    const network = await quantize(tinyLlama(rng(2), { width: 32, hidden: 48 }), codec)
    const tuned = attach(
      network,
      [{ adapter: lora({ rank: 4 }), at: 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}' }],
      rng(3),
    )
    const batch = batchOf(24, 5)
    const losses: number[] = []
    const data = Array.from({ length: 20 }, () => batch)
    const loss = (p: Params, b: Batch): Scalar => nextToken(tuned.run(p, inputsOf(b), { training: true }), b)
    for await (const step of train({ params: tuned.params, data, loss, transform: adamw({ lr: 0.01 }) }))
      losses.push(step.loss)
    expect(losses.at(-1)!).toBeLessThan(0.9 * losses[0]!)
  })
})
