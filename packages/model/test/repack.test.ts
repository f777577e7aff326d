import { copyFile, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  bf16,
  fp8,
  fromPacked,
  gguf,
  gptq,
  hqq,
  int4,
  int8,
  nf4,
  outliers,
  packedWriter,
  quantize,
  streaming,
  ternary,
} from '@weftjs/quant'
import type { Codec } from '@weftjs/spec'
import { cpu, memory, wasm } from '@weftjs/tensor'
import { blobFolder, blobSinks, type Folder, openCheckpoint, type TensorSource } from '@weftjs/tensor/checkpoint'
import { nodeFolder, saveCheckpoint } from '@weftjs/tensor/checkpoint/file'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadNetwork, namesOf, repacked, repackNetwork } from '../src/index.ts'
import { load, repack, save } from '../src/node.ts'
import { families, models } from './fixture.ts'

let root = ''
let count = 0
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'weft-repack-'))
})
afterAll(() => rm(root, { recursive: true }))
const fresh = (): string => join(root, String(count++))

const files = async (path: string): Promise<Record<string, string>> => {
  const found: Record<string, string> = {}
  for (const file of (await readdir(path)).sort()) found[file] = (await readFile(join(path, file))).toString('latin1')
  return found
}
/** what the whole network in memory gives */
const through = async (
  path: string,
  codec: Codec<any>,
  { at, maxShardBytes }: { at?: string; maxShardBytes?: number } = {},
): Promise<string> => {
  const { network, folder } = await load(path)
  const packed = await quantize(network, codec, { ...(at !== undefined && { at }) })
  const writer = await packedWriter(packed, namesOf(packed.config))
  const out = fresh()
  await save(packed, out, {
    from: folder,
    ...(writer && { packed: writer }),
    ...(maxShardBytes !== undefined && { maxShardBytes }),
  })
  return out
}

describe.each(families)('%s', (name) => {
  it('in nothing new is what save writes, and no tensor is made', async () => {
    await cpu()
    const path = `${models}${name}`
    const { network, folder } = await load(path)
    const before = memory().numTensors
    const [whole, out] = [fresh(), fresh()]
    await save(network, whole, { from: folder })
    const written = await repack(folder, streaming(nf4(), { at: [] }), out)
    expect(await files(out)).toEqual(await files(whole))
    expect(memory().numTensors).toBe(before)
    expect(Object.keys(written.network.weights)).toEqual(Object.keys(network.weights))
    expect(written.network.config).toEqual(network.config)
    expect(written.packed).toBeUndefined()
  })
  it('in few bits is what quantizing it in memory writes', async () => {
    await wasm()
    const path = `${models}${name}`
    const [out, codec, at] = [fresh(), nf4({ block: 32 }), '**'] as const
    await repack(nodeFolder(path), streaming(codec, { at }), out)
    expect(await files(out)).toEqual(await files(await through(path, codec, { at })))
  })
})

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('layouts on %s', (_, backend) => {
  const path = `${models}llama`
  const at = 'blocks.*.attn.*'
  it.each<[string, Codec<any>]>([
    ['bitsandbytes', nf4({ block: 32, double: true })],
    ['hqq', hqq({ bits: 4, group: 16, optimize: false })],
    ['compressed-tensors', fp8()],
    ['weft', int4({ group: 16 })],
    ['weft', gguf({ type: 'Q4_0' })],
    ['weft', ternary()],
    ['weft: values decide the size', outliers({ of: int8(), threshold: 0.05 })],
    ['none', bf16()],
  ])('%s, byte for byte, in shards too', async (_, codec) => {
    await backend()
    for (const maxShardBytes of [undefined, 30_000]) {
      const [out, before] = [fresh(), memory().numTensors]
      const { network } = await repack(nodeFolder(path), streaming(codec, { at }), out, {
        ...(maxShardBytes !== undefined && { maxShardBytes }),
      })
      expect(memory().numTensors).toBe(before)
      const whole = await through(path, codec, { at, ...(maxShardBytes !== undefined && { maxShardBytes }) })
      expect(await files(out)).toEqual(await files(whole))
      const all = (await readdir(out)).filter((f) => f.endsWith('.safetensors'))
      expect(all.length > 1).toBe(maxShardBytes !== undefined)
      // what is said of parts is what they are
      const { network: dense } = await load(path)
      const packed = await quantize(dense, codec, { at })
      for (const [n, { parts, codec: of }] of Object.entries(packed.weights)) {
        if (!of) continue
        const said = network.weights[n]!.parts
        expect(Object.keys(said)).toEqual(Object.keys(parts))
        for (const [key, t] of Object.entries(parts))
          expect([said[key]!.dtype, said[key]!.shape, said[key]!.size]).toEqual([t.dtype, t.shape, t.size])
      }
    }
  })
  it('goes to any sink, one that takes pieces in their order alone too', async () => {
    await backend()
    const how = (): ReturnType<typeof streaming> => streaming(nf4({ block: 32 }))
    const blobs = blobSinks()
    await repackNetwork(nodeFolder(path), how(), blobs.open)
    const plain = blobSinks()
    await repackNetwork(nodeFolder(path), how(), (file) => {
      const { writeAt: _, ...sink } = plain.open(file)
      return sink
    })
    const text = async (found: Map<string, Blob>): Promise<Record<string, string>> =>
      Object.fromEntries(
        await Promise.all(
          [...found].map(
            async ([f, b]) => [f, Buffer.from(await b.arrayBuffer()).toString('latin1')] as [string, string],
          ),
        ),
      )
    expect(await text(plain.blobs())).toEqual(await text(blobs.blobs()))
    expect((await loadNetwork(blobFolder(blobs.blobs()), { packed: fromPacked })).config.layers).toBeGreaterThan(0)
  })
})

describe('on the way', () => {
  const path = `${models}llama`
  /** the fixture with one tensor changed */
  const changed = async (change: (name: string, data: Uint8Array) => Uint8Array): Promise<Folder> => {
    const out = fresh()
    const { folder } = await load(path)
    const checkpoint = await openCheckpoint(folder)
    const tensors: TensorSource[] = []
    for (const name of checkpoint.names) {
      const { data, ...rest } = await checkpoint.read(name)
      tensors.push({ name, ...rest, data: change(name, data.slice()) })
    }
    await checkpoint.close()
    await mkdir(out)
    await copyFile(join(path, 'config.json'), join(out, 'config.json'))
    await saveCheckpoint(out, tensors)
    return nodeFolder(out)
  }
  it('a NaN in the last matrix is named, and leaves what was there', async () => {
    await wasm()
    const last = [...namesOf((await load(path)).network.config)].filter((n) => /down_proj/.test(n.hf)).at(-1)!.hf
    const folder = await changed((name, data) => {
      if (name === last) new DataView(data.buffer).setFloat32(data.length - 4, Number.NaN, true)
      return data
    })
    const out = fresh()
    await repack(nodeFolder(path), streaming(nf4({ block: 32 })), out)
    const before = await files(out)
    const tensors = memory().numTensors
    await expect(repack(folder, streaming(nf4({ block: 32 })), out)).rejects.toThrow(
      new RegExp(`${last.replace(/\./g, '\\.')}".*element \\[\\d+, \\d+\\] is NaN.*leave this weight out by "at"`),
    )
    expect(await files(out)).toEqual(before)
    expect(memory().numTensors).toBe(tensors)
    await expect(repack(folder, streaming(nf4({ block: 32 })), fresh())).rejects.toThrow('is NaN')
  })
  it('a codec that refuses a shape says whose it is; one that looks is refused', async () => {
    await wasm()
    const out = fresh()
    await expect(repack(nodeFolder(path), streaming(int4({ group: 7 })), out)).rejects.toThrow(/_proj\.weight": .*7/)
    await expect(readdir(out)).rejects.toThrow('ENOENT')
    expect(() => streaming(gptq())).toThrow('streaming: gptq looks at what the layer reads')
  })
  it('a checkpoint of 16 bits gives the same, what stays keeps its bytes, and the one asked for is taken', async () => {
    await wasm()
    const half = fresh()
    const { network } = await load(path)
    await save(network, half, { dtype: 'BF16' })
    const out = fresh()
    await repack(nodeFolder(half), streaming(nf4({ block: 32 })), out)
    expect(await files(out)).toEqual(await files(await through(half, nf4({ block: 32 }))))
    const wide = fresh()
    await repack(nodeFolder(half), streaming(nf4({ block: 32 })), wide, { dtype: 'F32' })
    const checkpoint = await openCheckpoint(nodeFolder(wide))
    expect(checkpoint.entry('model.norm.weight').dtype).toBe('F32')
    await checkpoint.close()
  })
  it('holds the parts of one matrix, and says how far it is', async () => {
    await wasm()
    const said: string[] = []
    const how = streaming(nf4({ block: 32 }), { onProgress: (p) => said.push(`${p.weights}/${p.of} ${p.name}`) })
    const before = memory().numTensors
    const { tensors, close } = await repacked(nodeFolder(path), how)
    expect(memory().numTensors).toBe(before)
    let most = 0
    for (const { data } of tensors) {
      if (typeof data === 'function') await data()
      most = Math.max(most, memory().numTensors - before)
    }
    expect(most).toBe(2)
    expect(said[0]).toMatch(/^1\/\d+ blocks\.0\.attn\.q$/)
    expect(new Set(said).size).toBe(said.length)
    await close()
    expect(memory().numTensors).toBe(before)
  })
})
