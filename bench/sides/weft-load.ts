/** Opens a checkpoint with ours and runs a first forward pass; counts the bytes that are read. */
import { open, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { attach, loadNetwork } from '@weftjs/model'
import { dispose, rng, tensor, tensorsIn, tidy, wasm } from '@weftjs/tensor'
import type { ByteSource, Folder } from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { serve } from './serve.ts'
import { idsOf, SMOL, tensorsOf } from './shape.ts'

/** a folder that counts what is read of it */
const counted = (folder: Folder, read: (bytes: number) => void): Folder => ({
  ...folder,
  open: async (file) => {
    const source = await folder.open(file)
    const spied: ByteSource = {
      ...source,
      read: (start, end) => {
        read(end - start)
        return source.read(start, end)
      },
      ...(source.readInto && {
        readInto: (start, target) => {
          read(target.byteLength)
          return source.readInto!(start, target)
        },
      }),
    }
    return spied
  },
  text: async (file) => {
    read((await stat(join(folder.name, file))).size)
    return folder.text(file)
  },
})

/** config.json, the index, each shard's header, and the tensors that the model has */
const needed = async (path: string): Promise<number> => {
  const index = await readFile(join(path, 'model.safetensors.index.json'))
  const shards = new Set(Object.values(JSON.parse(index.toString()).weight_map as Record<string, string>))
  let bytes = index.length + (await stat(join(path, 'config.json'))).size
  for (const shard of shards) {
    const file = await open(join(path, shard))
    const { buffer } = await file.read(Buffer.alloc(8), 0, 8, 0)
    bytes += 8 + Number(buffer.readBigUInt64LE(0))
    await file.close()
  }
  return bytes + tensorsOf(SMOL).reduce((n, [, shape]) => n + 4 * shape.reduce((a, b) => a * b, 1), 0)
}

await serve(async ({ path, length }: { path: string; length: number }) => {
  const { device } = await wasm()
  const least = (await needed(path)) / 1e6
  const raw = idsOf(SMOL.vocabulary, length)
  const unit = async (): Promise<Record<string, number>> => {
    let bytes = 0
    const begun = performance.now()
    const network = await loadNetwork(counted(nodeFolder(path), (n) => (bytes += n)))
    const opened = performance.now()
    const tuned = attach(network, [], rng(0))
    const last = tidy(() => tuned.forward({}, { ids: tensor(raw, [1, length], 'int32') }).logits)
    const values = await last.data()
    const ms = performance.now() - begun
    last.dispose()
    dispose(tensorsIn([Object.values(network.weights).map((w) => w.parts), network.vectors]))
    if (bytes / 1e6 < least * 0.999)
      throw new Error(`${bytes} bytes were counted and the model has more: a way of reading is not counted`)
    const check = Math.max(...values.subarray(values.length - SMOL.vocabulary))
    return { ms, openMs: opened - begun, read: bytes / 1e6, needed: least, check }
  }
  return { facts: { device }, unit }
})
