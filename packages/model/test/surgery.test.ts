import { cpu, memory, rng, tensor, tensor2d } from '@weftjs/tensor'
import { blobFolder, blobSinks } from '@weftjs/tensor/checkpoint'
import { describe, expect, it } from 'vitest'
import { attach, complete, loadNetwork, replicateLayers, resizeVocabulary, saveNetwork } from '../src/index.ts'
import { distance, families, fixture } from './fixture.ts'

await cpu()
const ids = tensor([5, 9, 14, 23, 42, 7], [1, 6], 'int32')
const logitsOf = (network: Parameters<typeof attach>[0]): Float32Array =>
  attach(network, [], rng(0)).forward({}, { ids }).logits.dataSync<'float32'>()
const saved = async (network: Parameters<typeof saveNetwork>[0]): Promise<Awaited<ReturnType<typeof loadNetwork>>> => {
  const written = blobSinks()
  await saveNetwork(network, written.open)
  return loadNetwork(blobFolder(written.blobs()))
}

describe('replicateLayers', () => {
  it('takes layers in the order of the ranges, shares their weights and allocates nothing', async () => {
    const { network } = await fixture('gemma3_text') // four layers, the third sees everything
    const before = memory().numTensors
    const deep = replicateLayers(network, [
      [0, 3],
      [1, 4],
    ])
    expect(memory().numTensors).toBe(before)
    expect(deep.config.layers).toBe(6)
    expect(deep.config.sliding).toEqual([true, true, false, true, false, true])
    for (const [to, from] of [0, 1, 2, 1, 2, 3].entries()) {
      expect(deep.weights[`blocks.${to}.attn.q`]).toBe(network.weights[`blocks.${from}.attn.q`])
      expect(deep.vectors[`blocks.${to}.norm1`]).toBe(network.vectors[`blocks.${from}.norm1`])
    }
    expect(deep.weights['embed']).toBe(network.weights['embed'])
    expect(replicateLayers(deep, [[1, 5]]).config.replicated).toEqual([
      [1, 3],
      [1, 3],
    ])
  })

  it('changes nothing where it takes each layer once', async () => {
    const { network } = await fixture('qwen3_moe')
    const same = replicateLayers(network, [
      [0, 1],
      [1, 2],
    ])
    expect(distance(logitsOf(same), logitsOf(network))).toBe(0)
    expect(distance(logitsOf(replicateLayers(network, [[0, 1]])), logitsOf(network))).toBeGreaterThan(0.1)
  })

  it.each(['llama3', 'gpt2', 'mixtral', 'qwen3_moe', 'gemma2', 'gemma3_text', 'qwen2_moe'])(
    '%s: written, it is a deeper checkpoint that gives the same, with a cache, too',
    async (name) => {
      const { network } = await fixture(name)
      const deep = replicateLayers(network, [
        [0, 2],
        [0, 1],
        [1, 2],
        [1, 2],
      ])
      const read = await saved(deep)
      expect(read.config.layers).toBe(5)
      expect(read.config.sliding).toEqual(deep.config.sliding)
      expect(distance(logitsOf(read), logitsOf(deep))).toBe(0)
      const tuned = attach(deep, [], rng(0))
      const [answer] = await complete(tuned, [[5, 9, 14]], { maxTokens: 4, ends: [] })
      const all = [5, 9, 14]
      for (let i = 0; i < 4; i++) {
        const last = tuned
          .forward({}, { ids: tensor(all, [1, all.length], 'int32') })
          .logits.dataSync()
          .slice(-deep.config.vocabulary)
        all.push(last.indexOf(Math.max(...last)))
      }
      expect(answer!.ids).toEqual(all.slice(3))
    },
  )

  it('puts adapters on each copy by itself', async () => {
    const { network } = await fixture('llama')
    const deep = replicateLayers(network, [
      [0, 2],
      [1, 2],
    ])
    const shift = { name: 'shift', init: () => ({ state: { t: tensor([1]) } }), around: (next: never) => next }
    const tuned = attach(deep, [{ adapter: shift as never, at: 'blocks.*.attn.q' }], rng(0))
    expect(Object.keys(tuned.params)).toEqual([0, 1, 2].map((i) => `blocks.${i}.attn.q.shift.t`))
  })

  it.each([[[]], [[[0, 3]]], [[[1, 1]]], [[[-1, 1]]], [[[0.5, 1]]], [[[0]]]])('refuses %j', async (ranges) => {
    const { network } = await fixture('llama')
    expect(() => replicateLayers(network, ranges as never)).toThrow(/replicateLayers: .*within the 2 layers/)
  })
})

describe('resizeVocabulary', () => {
  it.each(families.filter((n) => n !== 'vit' && !n.includes('rope') && !n.includes('-')))(
    '%s: more rows leave the logits of the others, fewer cut them, and a checkpoint of it is read',
    async (name) => {
      const { network } = await fixture(name)
      const V = network.config.vocabulary
      const more = resizeVocabulary(network, V + 3)
      const [before, after] = [logitsOf(network), logitsOf(more)]
      const T = before.length / V
      for (let t = 0; t < T; t++)
        expect(
          distance(after.subarray(t * (V + 3), t * (V + 3) + V), before.subarray(t * V, (t + 1) * V)),
        ).toBeLessThan(1e-6)
      const read = await saved(more)
      expect(read.config.vocabulary).toBe(V + 3)
      expect(distance(logitsOf(read), after)).toBe(0)
      const less = logitsOf(resizeVocabulary(network, V - 5))
      expect(distance(less.subarray(0, V - 5), before.subarray(0, V - 5))).toBeLessThan(1e-6)
    },
  )

  it('takes tables as they are given, and refuses others', async () => {
    const { network } = await fixture('llama')
    const embed = tensor2d(Array(98 * 32).fill(0.5), [98, 32])
    const { weights, config } = resizeVocabulary(network, 98, { embed })
    expect([...weights['embed']!.dense().dataSync().slice(0, 2)]).toEqual([0.5, 0.5])
    expect(weights['head']!.shape).toEqual([98, 32])
    expect(config.source['vocab_size']).toBe(98)
    expect(() => resizeVocabulary(network, 99, { embed })).toThrow(/embed: has shape \[98,32\], and 99 rows need/)
    expect(() => resizeVocabulary(network, 0)).toThrow(/rows must be a whole number/)
    const { network: vit } = await fixture('vit')
    expect(() => resizeVocabulary(vit, 9)).toThrow(/vit reads no tokens/)
  })
})
