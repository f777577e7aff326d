import { CheckpointError, quote, reason, show } from './error.ts'
import { type Folder, safeParts } from './folder.ts'
import { DuplicateKey, isObject, parseJson } from './json.ts'
import { type Checkpoint, checkpointOf, missing, openSafetensors } from './safetensors.ts'

export interface OpenOptions {
  /** `model` opens model.safetensors or model.safetensors.index.json; `adapter_model` is PEFT's */
  readonly stem?: string
}

/**
 * Opens the checkpoint of a folder, whole or in shards; all headers are read, and no tensor before it is asked for.
 * Tensors of a shard that the index does not name are left out, as transformers does.
 * @throws CheckpointError when there is none, the index is malformed, or a shard or a tensor of it is missing
 */
export const openCheckpoint = async (folder: Folder, { stem = 'model' }: OpenOptions = {}): Promise<Checkpoint> => {
  const file = `${stem}.safetensors`
  if (await folder.has(file)) return openSafetensors(await folder.open(file))
  const index = `${file}.index.json`
  if (await folder.has(index)) return openShards(folder, index)
  const found = (await folder.list?.()) ?? []
  const pickles = found.filter((name) => /\.(bin|pt|pth|ckpt)$/.test(name))
  if (pickles.length > 0)
    throw new CheckpointError(`neither ${file} nor ${index}, only ${pickles[0]}; convert it to safetensors`, {
      file: folder.name,
    })
  const others = found.flatMap((name) => /^(.*)\.safetensors(?:\.index\.json)?$/.exec(name)?.[1] ?? [])
  if (others.length > 0)
    throw new CheckpointError(`neither ${file} nor ${index}; pass stem ${quote(others[0]!)} to open that one`, {
      file: folder.name,
    })
  throw new CheckpointError(
    `neither ${file} nor ${index}; ${found.length > 0 ? `there are ${found.slice(0, 8).join(', ')}` : 'check the folder'}`,
    { file: folder.name },
  )
}

/** weight_map: tensor → shard */
const readIndex = async (folder: Folder, index: string): Promise<Map<string, string>> => {
  const file = `${folder.name}/${index}`
  const remedy = 'download the index again'
  let root: unknown
  try {
    root = parseJson(await folder.text(index))
  } catch (error) {
    if (error instanceof CheckpointError) throw error
    if (error instanceof DuplicateKey)
      throw new CheckpointError(`occurs twice in the index; ${remedy}`, { file, tensor: error.key })
    throw new CheckpointError(`not valid JSON: ${reason(error)}; ${remedy}`, { file }, { cause: error })
  }
  const map = isObject(root) && Object.hasOwn(root, 'weight_map') ? root.weight_map : undefined
  if (!isObject(map)) throw new CheckpointError(`weight_map is ${show(map)}, not an object; ${remedy}`, { file })
  const shards = new Map<string, string>()
  for (const [tensor, shard] of Object.entries(map)) {
    if (typeof shard !== 'string')
      throw new CheckpointError(`its shard is ${show(shard)}, not a file name; ${remedy}`, { file, tensor })
    safeParts(shard, file)
    shards.set(tensor, shard)
  }
  return shards
}

const openShards = async (folder: Folder, index: string): Promise<Checkpoint> => {
  const map = await readIndex(folder, index)
  const opened = new Map<string, Checkpoint>()
  const close = async (): Promise<void> => {
    for (const shard of opened.values()) await shard.close()
  }
  try {
    for (const shard of [...new Set(map.values())].sort()) {
      if (!(await folder.has(shard)))
        throw new CheckpointError(`the shard ${quote(shard)} that ${index} names is missing; download it too`, {
          file: folder.name,
        })
      opened.set(shard, await openSafetensors(await folder.open(shard)))
    }
    for (const [tensor, shard] of map)
      if (!opened.get(shard)!.has(tensor))
        throw new CheckpointError(`not in the shard that ${index} names; download index and shards again`, {
          file: `${folder.name}/${shard}`,
          tensor,
        })
  } catch (error) {
    await close()
    throw error
  }
  const names = [...opened].flatMap(([shard, { names }]) => names.filter((name) => map.get(name) === shard))
  const find = (name: string): Checkpoint => {
    const shard = opened.get(map.get(name) ?? '')
    if (!shard) throw missing(folder.name, name, names)
    return shard
  }
  const metadata: Record<string, string> = Object.create(null)
  for (const shard of [...opened.values()].reverse()) Object.assign(metadata, shard.metadata)
  return checkpointOf({
    name: folder.name,
    metadata,
    names: Object.freeze(names),
    has: (name) => map.has(name),
    entry: (name) => find(name).entry(name),
    read: async (name) => find(name).read(name),
    readInto: async (name, target, from) => find(name).readInto(name, target, from),
    close,
  })
}
