/**
 * A small Llama with its tokenizer, inside the package: everything runs with no network.
 * @packageDocumentation
 */
import { loadNetwork, loadTokenizer, type ModelTokenizer, type TransformerConfig } from '@weftjs/model'
import type { Network } from '@weftjs/spec'
import { CheckpointError, type Folder, fromBytes, fromUrl } from '@weftjs/tensor/checkpoint'

/** Where each file lies; written out one by one, so that bundlers find and copy them. */
export const miniFiles: Readonly<Record<string, URL>> = {
  'config.json': new URL('../model/config.json', import.meta.url),
  'generation_config.json': new URL('../model/generation_config.json', import.meta.url),
  'model.safetensors': new URL('../model/model.safetensors', import.meta.url),
  'tokenizer.json': new URL('../model/tokenizer.json', import.meta.url),
  'tokenizer_config.json': new URL('../model/tokenizer_config.json', import.meta.url),
}

/** Mini as a Hugging Face folder, read from disk in Node and fetched from beside the bundle in a browser. */
export const miniFolder = (): Folder => {
  const at = (file: string): URL => {
    const url = Object.hasOwn(miniFiles, file) ? miniFiles[file] : undefined
    if (!url)
      throw new CheckpointError(`no such file; mini has ${Object.keys(miniFiles).join(', ')}`, { file: `mini/${file}` })
    return url
  }
  const open: Folder['open'] = async (file) => {
    const url = at(file)
    if (url.protocol !== 'file:') return fromUrl(url.href)
    const { readFile } = await import(/* @vite-ignore */ 'node:fs/promises')
    return fromBytes(await readFile(url), `mini/${file}`)
  }
  return {
    name: 'mini',
    has: async (file) => Object.hasOwn(miniFiles, file),
    open,
    text: async (file) => {
      const source = await open(file)
      return new TextDecoder().decode(await source.read(0, source.size))
    },
    list: async () => Object.keys(miniFiles),
  }
}

/** Mini, ready to use. */
export const loadMini = async (): Promise<{ network: Network<TransformerConfig>; tokenizer: ModelTokenizer }> => {
  const folder = miniFolder()
  return { network: await loadNetwork(folder), tokenizer: await loadTokenizer(folder) }
}
