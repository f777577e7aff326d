import { readFile } from 'node:fs/promises'
import { miniFolder } from '@weftjs/mini'
import { loadNetwork, loadTokenizer } from '@weftjs/model'
import type { Config } from '@weftjs/spec'
import { wasm } from '@weftjs/tensor'
import { type ByteSource, blobSink, fromBytes, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { fixtureFolder, fixtures } from '@weftjs/testkit/fixtures'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import type { GgufField } from '../src/gguf/field.ts'
import { ggufFolder } from '../src/gguf/folder.ts'
import { checkpointSources, ggufModel } from '../src/gguf/model.ts'
import { openGguf } from '../src/gguf/reader.ts'
import { type GgufFile, type GgufSource, writeGguf } from '../src/gguf/writer.ts'

beforeAll(async () => {
  await wasm()
})

const written = async (file: GgufFile): Promise<Uint8Array> => {
  const sink = blobSink()
  await writeGguf(sink, file)
  return new Uint8Array(await sink.blob().arrayBuffer())
}
const llama3 = async (): Promise<GgufFile> => {
  const folder = fixtureFolder('models/llama3')
  const config = JSON.parse(await folder.text('config.json')) as Config
  const checkpoint = await openCheckpoint(folder)
  const tensors = await Promise.all(
    checkpointSources(checkpoint).map(async (t) => ({ ...t, data: (await checkpoint.read(t.name)).data.slice() })),
  )
  await checkpoint.close()
  return ggufModel({ config, tensors, mix: 'F32' })
}
const sums = async (given: Parameters<typeof ggufFolder>[0]): Promise<number[]> => {
  const { weights } = await loadNetwork(await ggufFolder(given))
  return Object.values(weights).map((w) => (w.dense().dataSync() as Float32Array).reduce((a, b) => a + b, 0))
}

describe('the folder that a GGUF file looks like', () => {
  it('opens the file while it is read, and closes it after', async () => {
    const bytes = await written(await llama3())
    const log: string[] = []
    const open = async (): Promise<ByteSource> => {
      log.push('open')
      return { ...fromBytes(bytes, 'x.gguf'), close: () => void log.push('close') }
    }
    const folder = await ggufFolder(open)
    expect(log.filter((l) => l === 'open').length).toBe(log.filter((l) => l === 'close').length)
    log.length = 0
    await loadNetwork(folder)
    expect(log).toEqual(['open', 'close'])
    await expect(ggufFolder(async () => ({ ...(await open()), size: 100 }))).rejects.toThrow(/truncated/)
    expect(log).toEqual(['open', 'close', 'open', 'close'])
  })

  it('may be in several files', async () => {
    const { metadata, tensors } = await llama3()
    const part = async (
      of: readonly GgufSource[],
      i: number,
      more = new Map<string, GgufField>(),
    ): Promise<ByteSource> => {
      const split = new Map<string, GgufField>([...more, ['split.count', { type: 'u16', value: 2 }]])
      return fromBytes(await written({ metadata: split, tensors: of }), `x-${i}.gguf`)
    }
    const [one, two] = [await part(tensors.slice(0, 5), 1, new Map(metadata)), await part(tensors.slice(5), 2)]
    expect(await sums([one, two])).toEqual(await sums(fromBytes(await written({ metadata, tensors }))))
    await expect(ggufFolder([one])).rejects.toThrow(
      /x-1.gguf: metadata split.count: the model is in 2 files and 1 were given/,
    )
    await expect(ggufFolder([one, one])).rejects.toThrow(/is in two of the files/)
  })

  it('has what transformers would want of it, and says what it has not', async () => {
    const folder = await ggufFolder(fromBytes(await written(await llama3()), 'x.gguf'))
    expect(await folder.list!()).toEqual(expect.arrayContaining(['config.json', 'model.safetensors']))
    await expect(folder.open('merges.txt')).rejects.toThrow(/x.gguf: has no merges.txt; it has config.json/)
    expect(JSON.parse(await folder.text('config.json'))).toMatchObject({
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      rope_scaling: { rope_type: 'llama3', factor: 8, original_max_position_embeddings: 16 },
      tie_word_embeddings: true,
    })
    const checkpoint = await openCheckpoint(folder)
    const real = await openCheckpoint(fixtureFolder('models/llama3'))
    expect([...checkpoint.names].sort()).toEqual([...real.names].sort())
    for (const name of real.names) {
      expect(checkpoint.entry(name)).toEqual(real.entry(name))
      const { data } = await real.read(name)
      expect(Buffer.compare((await checkpoint.read(name)).data, data), name).toBe(0)
      // any stretch of it, also of rows that lie elsewhere
      const target = new Uint8Array(101)
      await checkpoint.readInto(name, target, 7)
      expect(Buffer.compare(target, data.subarray(7, 108)), name).toBe(0)
    }
    await real.close()
  })

  it('never throws but in words, whatever the metadata are', async () => {
    const source = await readFile(`${fixtures}quant/gguf/pieces.gguf`)
    const file = await openGguf(fromBytes(new Uint8Array(source), 'x.gguf'))
    const tensors = [...file.tensors.values()].map((t) => ({ ...t, data: () => file.read(t.name) }))
    const odd = fc.oneof(
      fc.constantFrom<GgufField>(
        { type: 'u32', value: 0 },
        { type: 'u32', value: 2 ** 32 - 1 },
        { type: 'i32', value: -1 },
        { type: 'f32', value: Number.NaN },
        { type: 'f64', value: 0.5 },
        { type: 'u64', value: 2n ** 63n },
        { type: 'bool', value: true },
        { type: 'string', value: '__proto__' },
        { type: 'array', of: 'u32', value: [] },
        { type: 'array', of: 'i32', value: [1, 2] },
        { type: 'array', of: 'string', value: ['', 'a'] },
        { type: 'array', of: 'array', value: [] },
      ),
    )
    const keys = [
      ...file.metadata.keys(),
      'llama.rope.scaling.type',
      'llama.attention.key_length',
      'split.count',
      'tokenizer.ggml.merges',
    ]
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(fc.constantFrom(...keys), fc.option(odd, { nil: undefined })), {
          selector: ([k]) => k,
          maxLength: 3,
        }),
        async (changes) => {
          const metadata = new Map(file.metadata)
          for (const [key, field] of changes)
            if (field) metadata.set(key, field)
            else metadata.delete(key)
          try {
            const folder = await ggufFolder(fromBytes(await written({ metadata, tensors }), 'x.gguf'))
            await loadTokenizer(folder)
            await loadNetwork(folder)
          } catch (error) {
            expect(['Error', 'CheckpointError'], String((error as Error).stack)).toContain((error as Error).name)
          }
        },
      ),
      { numRuns: 200 },
    )
  })

  it('is not asked for by its name alone: a safetensors reader says what the file is', async () => {
    const bytes = await written(await llama3())
    const folder = { ...miniFolder(), open: async () => fromBytes(bytes, 'model.safetensors') }
    await expect(openCheckpoint(folder)).rejects.toThrow(/looks like a GGUF file: open it with ggufFolder/)
  })
})
