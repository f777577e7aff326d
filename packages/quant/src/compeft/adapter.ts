import type { Config, Params } from '@weftjs/spec'
import { dispose, ones, tensor } from '@weftjs/tensor'
import {
  blobFolder,
  CheckpointError,
  type Folder,
  openCheckpoint,
  type TensorBytes,
  toSafetensors,
} from '@weftjs/tensor/checkpoint'
import { fromCompeft, type ReadOptions, readCompeft, type ToCompeftOptions, toCompeft } from './file.ts'

const CONFIG = 'adapter_config.json'
const STEM = 'adapter_model'
/** what stands at 0, or for IA3 at 1, when it does nothing: the rest may not lose its small numbers */
const TENSORS: Readonly<Record<string, RegExp>> = {
  LORA: /\.lora_(embedding_)?[AB](\.weight)?$/,
  IA3: /\.ia3_l$/,
}
/** starts that put a part of the base into A and B */
const FROM_BASE = /^(pissa|olora|corda|loftq|lora_ga|milora)/

const checkedConfig = (text: string, file: string): Config => {
  const refuse = (found: string, remedy: string): never => {
    throw new CheckpointError(`${found}; ${remedy}`, { file })
  }
  let config: Config
  try {
    config = JSON.parse(text) as Config
  } catch (error) {
    return refuse(`not valid JSON (${(error as Error).message})`, 'make it again')
  }
  const type = typeof config === 'object' && config ? config['peft_type'] : undefined
  if (typeof type !== 'string' || !Object.hasOwn(TENSORS, type))
    return refuse(`peft_type is ${JSON.stringify(type)}`, `ComPEFT is for ${Object.keys(TENSORS).join(' and ')} here`)
  const start = config['init_lora_weights']
  if (typeof start === 'string' && FROM_BASE.test(start))
    return refuse(
      `init_lora_weights is "${start}", so that A and B hold a part of the base, no difference from it`,
      'make it a plain LoRA first',
    )
  return config
}

/**
 * A PEFT folder of LoRA or IA3 as one ComPEFT file, its config within  —  Yadav et al., arXiv:2311.13171
 *
 * A and B themselves are taken as the delta, as the authors do; IA3's vectors less 1.
 * @throws CheckpointError for another method, and for tensors that are none of its
 */
export const compeftAdapter = async (
  folder: Folder,
  options: Omit<ToCompeftOptions, 'base' | 'about'> = {},
): Promise<Uint8Array> => {
  const file = `${folder.name}/${CONFIG}`
  const text = await folder.text(CONFIG)
  const config = checkedConfig(text, file)
  const type = config['peft_type'] as string
  const checkpoint = await openCheckpoint(folder, { stem: STEM })
  const params: Record<string, Params[string]> = {}
  let base: Params | undefined
  try {
    for (const name of checkpoint.names) {
      if (!TENSORS[type]!.test(name))
        throw new CheckpointError(
          `is no part of ${type}, which alone is made ternary; leave it out, or fold the adapter`,
          {
            ...{ file: checkpoint.name, tensor: name },
          },
        )
      params[name] = tensor(await checkpoint.floats(name), [...checkpoint.entry(name).shape])
    }
    if (type === 'IA3') base = Object.fromEntries(Object.entries(params).map(([n, t]) => [n, ones(t.shape)]))
    return await toCompeft(params, { ...options, ...(base && { base }), about: JSON.stringify(config) })
  } finally {
    dispose([...Object.values(params), ...Object.values(base ?? {})])
    await checkpoint.close()
  }
}

/**
 * What `compeftAdapter` wrote as a PEFT folder again: adapter_config.json, and adapter_model.safetensors in float32.
 * @throws Error as `readCompeft`, and for a file that holds tensors and no adapter's config
 */
export const compeftFolder = (data: Uint8Array, options: ReadOptions = {}): Folder => {
  const { file = 'ComPEFT file' } = options
  const read = readCompeft(data, options)
  if (!read.about)
    throw new CheckpointError('holds tensors and no config of an adapter; read them with fromCompeft', { file })
  const config = checkedConfig(read.about, `${file}/${CONFIG}`)
  const type = config['peft_type'] as string
  const odd = read.tensors.find(({ name }) => !TENSORS[type]!.test(name))
  if (odd) throw new CheckpointError(`is no part of ${type}; make the file again`, { file, tensor: odd.name })
  const delta = fromCompeft(read)
  const tensors = Object.entries(delta).map(([name, t]): [string, TensorBytes] => {
    const numbers = t.dataSync() as Float32Array
    const values = type === 'IA3' ? numbers.map((v) => v + 1) : numbers
    return [
      name,
      { dtype: 'F32', shape: t.shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) },
    ]
  })
  const bytes = toSafetensors(Object.fromEntries(tensors), { format: 'pt' })
  dispose(Object.values(delta))
  const blob = (content: string | Uint8Array): Blob => new Blob([content as BlobPart])
  return blobFolder(
    new Map([
      [CONFIG, blob(`${JSON.stringify(config, null, 2)}\n`)],
      [`${STEM}.safetensors`, blob(bytes)],
    ]),
    file,
  )
}

/** whether these are the first bytes of a ComPEFT file */
export const isCompeft = (data: Uint8Array): boolean => String.fromCharCode(...data.subarray(0, 4)) === 'CPFT'
