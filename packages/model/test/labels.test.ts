import { readFile } from 'node:fs/promises'
import type { Params } from '@weftjs/spec'
import { applyUpdates, backprop, cpu, mapParams, mul, rng, type Tensor, tensor } from '@weftjs/tensor'
import { blobFolder, blobSinks, fromBytes, openSafetensors } from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { describe, expect, it } from 'vitest'
import {
  attach,
  initNetwork,
  kvCache,
  labelFirstTokens,
  labelHead,
  labelLoss,
  loadNetwork,
  nextToken,
  saveNetwork,
} from '../src/index.ts'
import { distance } from './fixture.ts'

await cpu()
const folder = new URL('../../testkit/fixtures/classifiers/', import.meta.url).pathname
const source = {
  ...{
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    vocab_size: 24,
    hidden_size: 16,
    num_hidden_layers: 2,
  },
  ...{ num_attention_heads: 2, intermediate_size: 24, max_position_embeddings: 16, tie_word_embeddings: true },
}
const base = initNetwork({ ...source, initializer_range: 0.3 }, rng(3))
const rows = [
  [5, 6, 7, 8, 9],
  [9, 8, 7, 6, 5],
]
const ids = tensor(rows.flat(), [2, 5], 'int32')
const logitsOf = async (network: typeof base, inputs: Params): Promise<number[]> =>
  Array.from(await attach(network, [], rng(0)).forward({}, inputs).logits.data())

describe.each(['sequence', 'sequence-uncausal', 'token'])('a classifier of transformers: %s', (name) => {
  it('gives its logits, and is written as it was read', async () => {
    const network = await loadNetwork(nodeFolder(`${folder}${name}`))
    const reference = await openSafetensors(fromBytes(await readFile(`${folder}${name}/reference.safetensors`)))
    const int = async (key: string): Promise<Tensor> => tensor(await reference.ints(key), [3, 8], 'int32')
    const [ids, mask] = [await int('input_ids'), await int('attention_mask')]
    const want = await reference.floats('logits')
    const real = (values: ArrayLike<number>): number[] =>
      Array.from(values).filter((_, i) => name !== 'token' || mask.dataSync()[Math.floor(i / 3)])
    const found = await logitsOf(network, { ids, mask })
    expect(distance(real(found), real(want))).toBeLessThan(1e-4 * Math.max(...real(want).map(Math.abs)))
    // where the mask is off, the rest of the text is seen; the reference tells whether it was
    const moved = (a: ArrayLike<number>, b: ArrayLike<number>): boolean => distance(real(a), real(b)) > 1e-3
    const other = Int32Array.from(ids.dataSync())
    other[6] = other[6] === 5 ? 6 : 5
    const changed = await reference.floats('changed')
    expect(moved(want, changed)).toBe(true)
    expect(
      distance(real(await logitsOf(network, { ids: tensor(other, [3, 8], 'int32'), mask })), real(changed)),
    ).toBeLessThan(1e-3)
    // without a mask the ids of padding tell as much, where a text is pooled
    if (name === 'sequence') expect(distance(await logitsOf(network, { ids }), want)).toBeLessThan(1e-3)

    const written = blobSinks()
    await saveNetwork(network, written.open)
    const bytes = new Uint8Array(await written.blobs().get('model.safetensors')!.arrayBuffer())
    const [ours, theirs] = await Promise.all(
      [bytes, await readFile(`${folder}${name}/model.safetensors`)].map((b) => openSafetensors(fromBytes(b))),
    )
    expect([...ours!.names].sort()).toEqual([...theirs!.names].sort())
    for (const n of theirs!.names) expect(distance(await ours!.floats(n), await theirs!.floats(n))).toBe(0)
    const config = JSON.parse(new TextDecoder().decode(await written.blobs().get('config.json')!.arrayBuffer()))
    expect(config.architectures).toEqual(
      JSON.parse(await readFile(`${folder}${name}/config.json`, 'utf8')).architectures,
    )
  })
})

describe('a label head', () => {
  it('takes the place of the head, and is saved and read again', async () => {
    const options = { per: 'text', pooling: 'mean', causal: false, names: ['no', 'yes', 'perhaps'] } as const
    const network = labelHead(base, 3, rng(1), options)
    expect(Object.keys(network.weights).filter((n) => !n.startsWith('blocks'))).toEqual(['embed', 'head'])
    expect(network.weights['head']!.shape).toEqual([3, 16])
    expect(network.config.source['architectures']).toEqual(['LlamaForSequenceClassification'])
    const written = blobSinks()
    await saveNetwork(network, written.open)
    const again = await loadNetwork(blobFolder(written.blobs()))
    expect([again.config.output, again.config.causal, again.config.pooling, again.config.classes]).toEqual([
      'classes',
      false,
      'mean',
      3,
    ])
    expect(distance(await logitsOf(again, { ids }), await logitsOf(network, { ids }))).toBe(0)
    const token = labelHead(base, 2, rng(1), { per: 'token' })
    expect(token.config.source['architectures']).toEqual(['LlamaForTokenClassification'])
    expect(token.vectors['head.bias']!.shape).toEqual([2])
    expect(token.config.output).toBe('labels')
  })

  it('pools without padding, however much there is', async () => {
    for (const pooling of ['first', 'last', 'mean', 'max'] as const)
      for (const causal of [true, false]) {
        const network = labelHead(base, 3, rng(1), { pooling, causal })
        const wide = tensor([...rows[0]!, 0, 0, ...rows[1]!, 0, 0], [2, 7], 'int32')
        const mask = tensor([1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0], [2, 7], 'int32')
        expect(distance(await logitsOf(network, { ids: wide, mask }), await logitsOf(network, { ids }))).toBeLessThan(
          1e-5,
        )
      }
  })

  it('pools the logits of its tokens, by hand', async () => {
    const per = async (pooling: 'first' | 'last' | 'mean' | 'max'): Promise<number[]> =>
      logitsOf(labelHead(base, 3, rng(1), { pooling }), { ids })
    const network = labelHead(base, 3, rng(1))
    const { hidden } = attach(network, [], rng(0)).run({}, { ids })
    const [h, w] = [await hidden.data(), await network.weights['head']!.dense().data()]
    const at = (b: number, t: number, l: number): number =>
      Array.from({ length: 16 }, (_, d) => h[(b * 5 + t) * 16 + d]! * w[l * 16 + d]!).reduce((x, y) => x + y)
    const all = [0, 1].flatMap((b) => [0, 1, 2].map((l) => [0, 1, 2, 3, 4].map((t) => at(b, t, l))))
    expect(
      distance(
        await per('first'),
        all.map((z) => z[0]!),
      ),
    ).toBeLessThan(1e-5)
    expect(
      distance(
        await per('last'),
        all.map((z) => z[4]!),
      ),
    ).toBeLessThan(1e-5)
    expect(
      distance(
        await per('mean'),
        all.map((z) => z.reduce((a, b) => a + b) / 5),
      ),
    ).toBeLessThan(1e-5)
    expect(
      distance(
        await per('max'),
        all.map((z) => Math.max(...z)),
      ),
    ).toBeLessThan(1e-5)
  })

  it('without the causal mask hears what comes later; with it, not', async () => {
    const later = tensor([5, 6, 7, 8, 3, 9, 8, 7, 6, 5], [2, 5], 'int32')
    for (const causal of [true, false]) {
      const network = labelHead(base, 2, rng(1), { per: 'token', causal })
      const [a, b] = [await logitsOf(network, { ids }), await logitsOf(network, { ids: later })]
      const d = distance(a.slice(0, 8), b.slice(0, 8)) // four tokens before the one that changed
      if (causal) expect(d).toBe(0)
      else expect(d).toBeGreaterThan(1e-4)
    }
    const open = attach(labelHead(base, 2, rng(1), { causal: false }), [], rng(0))
    const cache = kvCache(open.network.config)
    expect(() => open.run({}, { ids }, { cache })).toThrow('a cache needs causal attention')
  })

  it('learns token labels that depend on the right context only without the mask', () => {
    // label of a token: is the next one even? With the mask nothing does better than a coin on new texts: ln 2
    const T = 6
    const batchOf = (seeds: number[]) => {
      const data = seeds.map((i) => Array.from(rng(i).numbers(T), (u) => 4 + Math.floor(u * 4)))
      const targets = Int32Array.from(data.flatMap((row) => row.map((_, t) => (t + 1 < T ? row[t + 1]! % 2 : -100))))
      return { ids: tensor(data.flat(), [seeds.length, T], 'int32'), targets, shape: [seeds.length, T] as const }
    }
    const [train, held] = [batchOf(Array.from(Array(24).keys())), batchOf(Array.from(Array(24), (_, i) => 100 + i))]
    const final: number[] = []
    for (const causal of [true, false]) {
      const tuned = attach(labelHead(base, 2, rng(1), { per: 'token', causal }), [], rng(0), { train: '**' })
      const loss = (p: Params, batch: typeof train) => nextToken(tuned.run(p, { ids: batch.ids }), batch)
      let params = tuned.params
      for (let step = 0; step < 25; step++) {
        const { grads } = backprop((p) => loss(p, train), params)
        params = applyUpdates(
          params,
          mapParams(grads, (g) => mul(g, -0.5)),
        )
      }
      final.push(loss(params, held).dataSync()[0]!)
    }
    expect(final[0]!).toBeGreaterThan(0.97 * Math.LN2)
    expect(final[1]!).toBeLessThan(0.9 * Math.LN2)
  })

  it('has the losses of classes, numbers and several labels, by hand', async () => {
    const pass = (z: number[][]) => {
      const t = tensor(z.flat(), [z.length, z[0]!.length])
      return { hidden: t, head: (x: Tensor) => x, headWeight: undefined, softcap: undefined, penalty: undefined }
    }
    const value = (t: Tensor): number => t.dataSync()[0]!
    const z = [
      [1, 2],
      [0, -1],
    ]
    const ce = (Math.log(1 + Math.exp(1)) + Math.log(1 + Math.exp(-1))) / 2
    expect(value(labelLoss(pass(z), Int32Array.of(0, 0)))).toBeCloseTo(ce, 5)
    expect(value(labelLoss(pass([[1], [3]]), [[0], [1]], 'regression'))).toBeCloseTo((1 + 4) / 2, 5)
    const bce = [Math.log(1 + Math.exp(1)) - 1, Math.log(1 + Math.exp(2)), Math.log(2), Math.log(1 + Math.exp(-1)) + 1]
    const several = labelLoss(
      pass(z),
      [
        [1, 0],
        [0, 1],
      ],
      'several',
    )
    expect(value(several)).toBeCloseTo(bce.reduce((a, b) => a + b) / 4, 5)
    expect(() => labelLoss(pass(z), Int32Array.of(0, 2))).toThrow(
      'label 2 is none of the 2 classes; number them from 0',
    )
    expect(() => labelLoss(pass(z), [[1]], 'several')).toThrow(
      'labels: [1, 1] for logits [2,2]; give a number for each',
    )
  })

  it('labels the first token of each word', () => {
    const words = [undefined, 0, 0, 1, 2, 2, undefined]
    expect([...labelFirstTokens(words, [4, 5, 6])]).toEqual([-100, 4, -100, 5, 6, -100, -100])
    expect(() => labelFirstTokens([0, 1], [3])).toThrow('token 1 is of word 1, and there are labels for 1')
  })

  it('says what is wrong', () => {
    expect(() => labelHead(base, 0, rng(0))).toThrow('labelHead: labels must be a whole number of at least 1, found 0')
    expect(() => labelHead(base, 2, rng(0), { names: ['a'] })).toThrow(
      'labelHead: 1 names for 2 labels; give one for each',
    )
    const gpt = initNetwork({ model_type: 'gpt2', vocab_size: 9, n_embd: 8, n_layer: 1, n_head: 2 }, rng(0))
    expect(() => labelHead(gpt, 2, rng(0))).toThrow('Gpt2ForSequenceClassification')
    expect(() =>
      initNetwork({ ...source, architectures: ['LlamaForSequenceClassification'], classifier_pooling: 'sum' }, rng(0)),
    ).toThrow('config.json: classifier_pooling must be one of first, last, mean, max, found "sum"')
  })
})
