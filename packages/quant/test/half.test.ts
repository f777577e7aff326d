import { attach, loadNetwork, saveNetwork } from '@weftjs/model'
import { bytesOf, cpu, rng, tensor, wasm } from '@weftjs/tensor'
import { blobFolder, blobSink } from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { describe, expect, it } from 'vitest'
import { bf16, f16, fromHalf } from '../src/index.ts'

const models = new URL('../../testkit/fixtures/models/', import.meta.url).pathname
type Net = Awaited<ReturnType<typeof loadNetwork>>

/** the files that saving writes */
const files = async (network: Net, dtype?: 'F16' | 'BF16'): Promise<Map<string, Blob>> => {
  const found = new Map<string, Blob>()
  const create = (file: string) => {
    const sink = blobSink()
    const close = (): void => {
      sink.close()
      found.set(file, sink.blob())
    }
    return { ...sink, close }
  }
  await saveNetwork(network, create, dtype ? { dtype } : {})
  return found
}

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('a checkpoint of 16 bits on %s', (_, start) => {
  it.each([
    ['llama', 'BF16'],
    ['llama', 'F16'],
    ['qwen2', 'BF16'],
    // its matrices lie transposed, some of them square
    ['gpt2', 'BF16'],
  ] as const)('%s in %s is kept as it is, computes the same, and is written back the same', async (model, dtype) => {
    await start()
    const stored = await files(await loadNetwork(nodeFolder(`${models}${model}`)), dtype)
    const plain = await loadNetwork(blobFolder(stored))
    const kept = await loadNetwork(blobFolder(stored), { packed: fromHalf })
    expect(kept.config).toEqual(plain.config)
    for (const [name, w] of Object.entries(kept.weights)) {
      const half = model !== 'gpt2' && name.startsWith('blocks.')
      expect(w.format, name).toBe(half ? dtype.toLowerCase() : 'dense')
      expect(w.dense().dataSync(), name).toEqual(plain.weights[name]!.dense().dataSync())
      if (half) expect(bytesOf(w.parts)).toBe(2 * w.shape[0] * w.shape[1])
    }
    const ids = tensor([3, 1, 4, 1, 5, 9, 2, 6], [2, 4], 'int32')
    const [a, b] = [kept, plain].map((n) => attach(n, [], rng(0)).forward({}, { ids }).logits)
    const want = b!.dataSync()
    a!.dataSync().forEach((v, i) => {
      if (!(Math.abs(v - want[i]!) <= 1e-5)) expect(v, `logit ${i}`).toBeCloseTo(want[i]!, 5)
    })
    const again = await files(kept)
    expect([...again.keys()]).toEqual([...stored.keys()])
    for (const [file, blob] of stored)
      expect(
        Buffer.from(await again.get(file)!.arrayBuffer()).equals(Buffer.from(await blob.arrayBuffer())),
        file,
      ).toBe(true)
  })
})

describe.each([
  [
    'bf16',
    bf16(),
    [1, -0, 3.3895313892515355e38, 2 ** -133, 1.00390625, 1.01171875, -1e39],
    [1, -0, 3.3895313892515355e38, 2 ** -133, 1, 1.015625, -3.3895313892515355e38],
  ],
  [
    'f16',
    f16(),
    // halves go to even; steps of 2⁻²⁴ below 2⁻¹⁴; nothing beyond ±65504
    [1, -0, 65504, 1e6, 2 ** -24, 2 ** -25, 1.5 * 2 ** -24, -(2 ** -14), 2049, 2051],
    [1, -0, 65504, 65504, 2 ** -24, 0, 2 ** -23, -(2 ** -14), 2048, 2052],
  ],
] as const)('%s', (_, codec, values, wanted) => {
  it.each([
    ['cpu', cpu],
    ['wasm', wasm],
  ])('rounds to the nearest, halves to even, on %s', async (_, start) => {
    await start()
    const w = tensor([...values], [1, values.length])
    const back = codec.decode(codec.encode(w as never), [1, values.length])
    expect([...back.dataSync()]).toEqual([...wanted])
  })
})
