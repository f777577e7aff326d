import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { add, cpu, memory, ones, rng, tensor } from '@weftjs/tensor'
import { blobFolder, blobSinks, fromBytes, openSafetensors, toSafetensors } from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { dense } from '@weftjs/weight'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { attach, initNetwork, loadNetwork, saveNetwork } from '../src/index.ts'
import { load, save } from '../src/node.ts'
import { distance, families, models } from './fixture.ts'

await cpu()
let root = ''
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'weft-save-'))
})
afterAll(() => rm(root, { recursive: true }))

const json = async (path: string): Promise<Record<string, unknown>> => JSON.parse(await readFile(path, 'utf8'))

describe.each(families)('%s', (name) => {
  it('is written as it was read, byte for byte', async () => {
    const out = join(root, name)
    const { network, folder } = await load(`${models}${name}`)
    const sharded = (await readdir(`${models}${name}`)).filter((f) => /^model-/.test(f)).length > 0
    const written = await save(network, out, { from: folder, ...(sharded && { maxShardBytes: 20_000 }) })
    expect(await json(join(out, 'config.json'))).toEqual(await json(`${models}${name}/config.json`))
    if (sharded) {
      const before = await json(`${models}${name}/model.safetensors.index.json`)
      const after = await json(join(out, 'model.safetensors.index.json'))
      expect(Object.keys(after['weight_map'] as object).sort()).toEqual(
        Object.keys(before['weight_map'] as object).sort(),
      )
    } else
      expect(
        Buffer.compare(
          await readFile(join(out, 'model.safetensors')),
          await readFile(`${models}${name}/model.safetensors`),
        ),
      ).toBe(0)
    expect(written).toContain('config.json')
    if ((await readdir(`${models}${name}`)).includes('generation_config.json'))
      expect(written).toContain('generation_config.json')
    const { network: again } = await load(out)
    expect(again.config).toEqual(network.config)
    expect(Object.keys(again.weights)).toEqual(Object.keys(network.weights))
    for (const [n, w] of Object.entries(network.weights))
      expect(again.weights[n]!.dense().dataSync(), n).toEqual(w.dense().dataSync())
    for (const [n, v] of Object.entries(network.vectors)) expect(again.vectors[n]!.dataSync(), n).toEqual(v.dataSync())
  })
})

it('writes in another dtype, and says so in config.json', async () => {
  const { network } = await load(`${models}gpt2`)
  const out = join(root, 'half')
  await save(network, out, { dtype: 'BF16' })
  expect((await json(join(out, 'config.json')))['dtype']).toBe('bfloat16')
  const file = await openSafetensors(fromBytes(await readFile(join(out, 'model.safetensors'))))
  expect(new Set(file.names.map((n) => file.entry(n).dtype))).toEqual(new Set(['BF16']))
  const { network: half } = await load(out)
  const [a, b] = [network, half].map((n) => n.weights['embed']!.dense().dataSync()) as [Float32Array, Float32Array]
  for (let i = 0; i < a.length; i++) expect(Math.abs(a[i]! - b[i]!)).toBeLessThanOrEqual(Math.abs(a[i]!) * 2 ** -8)
  // and without asking, what was read in bfloat16 is written so
  await save(half, join(root, 'again'))
  expect(await readFile(join(root, 'again', 'model.safetensors'))).toEqual(
    await readFile(join(out, 'model.safetensors')),
  )
})

it('unties a head that has changed', async () => {
  const network = await loadNetwork(nodeFolder(`${models}llama3`))
  const head = {
    name: 'shift',
    init: () => ({ state: {} }),
    weight: (base: { dense(): never }) => dense(add(base.dense(), 1) as never),
  }
  const folded = attach(network, [{ adapter: head as never, at: 'head' }], rng(0)).fold({})
  const out = join(root, 'untied')
  await save(folded, out)
  expect((await json(join(out, 'config.json')))['tie_word_embeddings']).toBe(false)
  const { network: again } = await load(out)
  expect(again.weights['head']!.dense().dataSync()).toEqual(folded.weights['head']!.dense().dataSync())
  expect(again.weights['embed']!.dense().dataSync()).toEqual(network.weights['embed']!.dense().dataSync())
})

it('folds an adapter of a tied embedding into what the adapted model computes', async () => {
  const network = await loadNetwork(nodeFolder(`${models}llama3`))
  const scaled = {
    name: 'double',
    init: () => ({ state: {} }),
    weight: (base: { dense(): never }) => dense(add(base.dense(), base.dense()) as never),
  }
  const tuned = attach(network, [{ adapter: scaled as never, at: 'embed' }], rng(0))
  const inputs = { ids: tensor([[1, 2, 3]], [1, 3], 'int32') }
  const folded = tuned.fold({})
  const logits = (t: typeof tuned): ArrayLike<number> => t.forward({}, inputs).logits.dataSync()
  expect(distance(logits(attach(folded, [], rng(0))), logits(tuned))).toBeLessThan(1e-5)
  await save(folded, join(root, 'parted'))
  const { network: again } = await load(join(root, 'parted'))
  expect(distance(logits(attach(again, [], rng(0))), logits(tuned))).toBeLessThan(1e-5)
})

it('goes through blobs, as in a browser, and leaves no tensor behind', async () => {
  const network = await loadNetwork(nodeFolder(`${models}gpt2`))
  const before = memory().numTensors
  const written = blobSinks()
  const files = await saveNetwork(network, written.open, { maxShardBytes: 30_000 })
  expect(memory().numTensors).toBe(before)
  expect(files.length).toBeGreaterThan(3)
  const again = await loadNetwork(blobFolder(written.blobs()))
  for (const [n, w] of Object.entries(network.weights))
    expect(again.weights[n]!.dense().dataSync(), n).toEqual(w.dense().dataSync())
})

it('gives packed weights to their writer, and reads them through their reader', async () => {
  const network = await loadNetwork(nodeFolder(`${models}llama`))
  const format = { ...network.weights['blocks.0.attn.q']!, format: 'mine' }
  const out = join(root, 'packed')
  await save({ ...network, weights: { ...network.weights, 'blocks.0.attn.q': format } }, out, {
    packed: {
      config: { quantization_config: { quant_method: 'mine' } },
      tensors: (hf, weight) =>
        weight.format === 'mine'
          ? [{ name: `${hf}.codes`, dtype: 'U8', shape: [2], data: Uint8Array.of(1, 2) }]
          : undefined,
    },
  })
  await expect(load(out)).rejects.toThrow(/quantization_config.*mine/)
  const ignored: string[] = []
  const { network: again } = await load(out, {
    onIgnored: (names) => ignored.push(...names),
    packed: async (checkpoint, hf, shape) =>
      checkpoint.has(`${hf}.codes`) ? { ...dense(ones(shape as [number, number])), format: 'mine' } : undefined,
  })
  expect(again.weights['blocks.0.attn.q']!.format).toBe('mine')
  expect(again.weights['blocks.0.attn.k']!.format).toBe('dense')
  expect(ignored).toEqual([])
})

it('refuses what the checkpoint has no place for, and changes nothing on disk', async () => {
  const network = await loadNetwork(nodeFolder(`${models}llama`))
  const out = join(root, 'kept')
  await save(network, out)
  const before = await readFile(join(out, 'model.safetensors'))
  const extra = { ...network, vectors: { ...network.vectors, 'blocks.0.attn.q.bias': ones([32]) } }
  await expect(save(extra, out)).rejects.toThrow(/blocks\.0\.attn\.q\.bias: a llama checkpoint has no place/)
  const lacks = { ...network, vectors: {} }
  await expect(save(lacks, out)).rejects.toThrow(/norm1: the network has no such tensor/)
  const odd = { ...network, weights: { ...network.weights, embed: dense(ones([3, 4]) as never) } }
  await expect(save(odd, out)).rejects.toThrow(/embed: has shape \[3,4\].*\[96,32\]/)
  await writeFile(join(root, 'a-file'), '')
  await expect(save(network, join(root, 'a-file'))).rejects.toThrow()
  expect(await readFile(join(out, 'model.safetensors'))).toEqual(before)
  expect(await readdir(out)).toEqual(['config.json', 'model.safetensors'])
})

describe('initNetwork', () => {
  it.each(['llama3', 'gemma2', 'gpt2', 'bert', 'vit'])('makes a %s that can be saved, loaded and run', async (name) => {
    const source = await json(`${models}${name}/config.json`)
    const network = initNetwork(source, rng(7))
    const out = join(root, `init-${name}`)
    await save(network, out)
    const file = await openSafetensors(fromBytes(await readFile(`${models}${name}/model.safetensors`)))
    const made = await openSafetensors(fromBytes(await readFile(join(out, 'model.safetensors'))))
    expect(made.names).toEqual(file.names)
    for (const n of file.names) expect(made.entry(n).shape).toEqual(file.entry(n).shape)
    const inputs = name === 'vit' ? { pixels: ones([1, 3, 32, 32]) } : { ids: tensor([[1, 2, 3]], [1, 3], 'int32') }
    const { logits } = attach(network, [], rng(0)).forward({}, inputs)
    expect(logits.dataSync().every(Number.isFinite)).toBe(true)
    expect(initNetwork(source, rng(7)).vectors['norm']?.dataSync()).toEqual(network.vectors['norm']?.dataSync())
  })
  it('has the deviation that the config asks for', () => {
    const source = {
      model_type: 'llama',
      vocab_size: 512,
      hidden_size: 64,
      intermediate_size: 128,
      num_hidden_layers: 8,
      num_attention_heads: 4,
      initializer_range: 0.5,
    }
    const { weights } = initNetwork(source, rng(1))
    const deviation = (n: string): number => {
      const v = weights[n]!.dense().dataSync<'float32'>()
      return Math.sqrt(v.reduce((s, x) => s + x * x, 0) / v.length)
    }
    expect(deviation('embed')).toBeCloseTo(0.5, 2)
    expect(deviation('blocks.3.mlp.up')).toBeCloseTo(0.5, 1)
    expect(deviation('blocks.3.mlp.down')).toBeCloseTo(0.5 / 4, 2)
  })
})

it('a folder that is written over loses the shards of before', async () => {
  const network = await loadNetwork(nodeFolder(`${models}llama`))
  const out = join(root, 'over')
  await save(network, out, { maxShardBytes: 20_000 })
  await save(network, out)
  expect((await readdir(out)).filter((f) => f.startsWith('model'))).toEqual(['model.safetensors'])
  const tail = toSafetensors({}) // an empty file is a checkpoint too: the load names what it lacks
  await writeFile(join(out, 'model.safetensors'), tail)
  await expect(load(out)).rejects.toThrow(/embed_tokens.*not in this checkpoint/)
})
