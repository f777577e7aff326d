import { PEFT_CONFIG, PEFT_TENSORS } from '@weftjs/lora'
import { compeftFolder, ggufFolder, isCompeft } from '@weftjs/quant'
import { blobFolder, type Folder, fromBlob } from '@weftjs/tensor/checkpoint'
import { unzipSync } from 'fflate'
import type { Picked } from '../protocol.ts'

/** parts of one model are named so by llama.cpp's gguf-split */
const PART = /-\d{5}-of-\d{5}\.gguf$/i

/** The folder of a model, as it was picked: one of Hugging Face's, or what a GGUF file makes of itself. */
export const modelFolder = async ({ files, name }: Picked): Promise<Folder> => {
  const folder = blobFolder(files, name)
  if (await folder.has('config.json')) return folder
  const gguf = files.filter((f) => /\.gguf$/i.test(f.name)).sort((a, b) => a.name.localeCompare(b.name))
  if (!gguf.length)
    throw new Error(
      'This is no folder of a model: it has no config.json. Pick one as it comes from the Hugging Face hub, with config.json, model.safetensors and tokenizer.json, or a GGUF file.',
    )
  const odd = gguf.find((f) => !PART.test(f.name))
  if (gguf.length > 1 && odd)
    throw new Error(`There are ${gguf.length} GGUF files here, and each is a model: pick one, such as ${odd.name}.`)
  return ggufFolder(gguf.map((f) => () => fromBlob(f, f.name)))
}

/** what is in a zip, by path */
const unpacked = async (zip: File): Promise<Map<string, Blob>> => {
  let inside: Record<string, Uint8Array>
  try {
    inside = unzipSync(new Uint8Array(await zip.arrayBuffer()))
  } catch (error) {
    throw new Error(`${zip.name} cannot be unpacked: ${(error as Error).message}. Download it again.`)
  }
  return new Map(
    Object.entries(inside)
      .filter(([path]) => !path.endsWith('/'))
      .map(([path, bytes]) => [path, new Blob([bytes as BlobPart])]),
  )
}

/** what lies in the folder of the outermost adapter, by paths within it: X-LoRA has folders of its own below */
const within = (files: ReadonlyMap<string, Blob>): ReadonlyMap<string, Blob> => {
  const depth = (path: string): number => path.split('/').length
  const [config] = [...files.keys()]
    .filter((path) => path === PEFT_CONFIG || path.endsWith(`/${PEFT_CONFIG}`))
    .sort((a, b) => depth(a) - depth(b))
  const root = config?.slice(0, -PEFT_CONFIG.length) ?? ''
  return new Map([...files].flatMap(([path, blob]) => (path.startsWith(root) ? [[path.slice(root.length), blob]] : [])))
}

/** The folder of an adapter: PEFT's files, a zip of them, or a ComPEFT file. */
export const adapterFolder = async (files: readonly File[]): Promise<Folder> => {
  const [first] = files
  if (files.length === 1 && first && isCompeft(new Uint8Array(await first.slice(0, 4).arrayBuffer())))
    return compeftFolder(new Uint8Array(await first.arrayBuffer()), { file: first.name })
  const zip = files.find((f) => /\.zip$/i.test(f.name))
  const found = zip ? within(await unpacked(zip)) : new Map(files.map((f) => [f.name, f]))
  const missing = [PEFT_CONFIG, PEFT_TENSORS].filter((f) => !found.has(f))
  if (missing.length)
    throw new Error(
      `An adapter is ${PEFT_CONFIG} and ${PEFT_TENSORS} together, a zip with both, or a ComPEFT file; ${missing.join(' and ')} ${missing.length > 1 ? 'are' : 'is'} missing among ${[...found.keys()].join(', ') || 'nothing'}.`,
    )
  return blobFolder(found, 'the adapter')
}
