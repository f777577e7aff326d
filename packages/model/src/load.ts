import type { Config, Network, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { keep, reshape, tensor, tidy, transpose } from '@weftjs/tensor'
import { type Checkpoint, CheckpointError, type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint/index'
import { dense } from '@weftjs/weight'
import { type Architecture, architectureOf, type Name } from './architectures/index.ts'
import type { TransformerConfig } from './config.ts'

export interface LoadOptions {
  /** more families than the built-in ones */
  readonly architectures?: readonly Architecture[]
  readonly onProgress?: (done: { tensors: number; of: number; bytes: number }) => void
}

/** A Hugging Face folder (config.json, safetensors whole or sharded) as a network. */
export const loadNetwork = async (
  folder: Folder,
  { architectures, onProgress }: LoadOptions = {},
): Promise<Network<TransformerConfig>> => {
  const source = await readJson(folder, 'config.json')
  const architecture = architectureOf(source, architectures)
  const config = architecture.config(source)
  const checkpoint = await openCheckpoint(folder)
  try {
    const weights: Record<string, Weight> = {}
    const vectors: Record<string, Tensor> = {}
    const names = architecture.names(config)
    let bytes = 0
    for (const [i, name] of names.entries()) {
      const found = await readTensor(checkpoint, name)
      if (!found) continue
      bytes += found.size * 4
      // a site's name has a matrix behind it; norms, biases and position tables are vectors
      if (found.rank === 2 && !VECTORS.has(name.name)) weights[name.name] = dense(found as Tensor2D)
      else vectors[name.name] = found
      onProgress?.({ tensors: i + 1, of: names.length, bytes })
    }
    return { config, weights, vectors }
  } finally {
    await checkpoint.close()
  }
}

const VECTORS = new Set(['positions', 'types'])

const readTensor = async (checkpoint: Checkpoint, { hf, layout, optional }: Name): Promise<Tensor | undefined> => {
  if (!checkpoint.has(hf)) {
    if (optional) return undefined
    checkpoint.entry(hf) // throws, naming what there is
  }
  const { shape } = checkpoint.entry(hf)
  const values = await checkpoint.floats(hf)
  return tidy(() => {
    const stored = tensor(values, shape as number[])
    if (layout === 'transposed') return keep(transpose(stored))
    if (layout === 'patches') return keep(reshape(stored, [shape[0]!, -1]))
    return keep(stored)
  })
}

export const readJson = async (folder: Folder, file: string): Promise<Config> => {
  const text = await folder.text(file)
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Config
  } catch (error) {
    throw new CheckpointError(`not valid JSON (${(error as Error).message}); download it again`, {
      file: `${folder.name}/${file}`,
    })
  }
  throw new CheckpointError('not a JSON object; download it again', { file: `${folder.name}/${file}` })
}
