import { stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { formatOf, PEFT_CONFIG, PEFT_STEM, readPeftConfig } from '@weftjs/lora'
import { architectureOf } from '@weftjs/model'
import { openGguf, readCompeft } from '@weftjs/quant'
import type { Config } from '@weftjs/spec'
import { type Checkpoint, type Folder, openCheckpoint, openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import type { Call } from '../command.ts'
import { Failure } from '../fail.ts'
import { compeftIn, isGgufFile, openFolder } from '../models.ts'
import { print, printJson, size } from '../terminal.ts'
import { tallyOf } from './compeft.ts'

interface Report {
  readonly kind: 'checkpoint' | 'model' | 'adapter'
  readonly name: string
  readonly config?: Config
  readonly supported?: boolean | string
  /** of an adapter: under which `weft list lora` has it */
  readonly method?: string
  readonly parameters: number
  readonly bytes: number
  readonly dtypes: Readonly<Record<string, number>>
  readonly metadata: Readonly<Record<string, string>>
  readonly tensors: readonly { name: string; dtype: string; shape: readonly number[]; bytes: number }[]
}

const reportOf = (checkpoint: Checkpoint, rest: Pick<Report, 'kind' | 'name'> & Partial<Report>): Report => {
  const tensors = checkpoint.names.map((name) => {
    const { dtype, shape, bytes } = checkpoint.entry(name)
    return { name, dtype, shape, bytes }
  })
  const dtypes: Record<string, number> = {}
  for (const t of tensors) dtypes[t.dtype] = (dtypes[t.dtype] ?? 0) + 1
  return {
    ...rest,
    parameters: tensors.reduce((n, t) => n + t.shape.reduce((p, d) => p * d, 1), 0),
    bytes: tensors.reduce((n, t) => n + t.bytes, 0),
    dtypes,
    metadata: checkpoint.metadata,
    tensors,
  }
}

const ofFolder = async (folder: Folder): Promise<Report> => {
  if (await folder.has(PEFT_CONFIG)) {
    let config: Config
    let supported: boolean | string = true
    try {
      config = await readPeftConfig(folder)
    } catch (error) {
      // what Weft cannot put on a model can still be looked at
      supported = (error as Error).message
      try {
        config = JSON.parse(await folder.text(PEFT_CONFIG)) as Config
      } catch {
        throw error
      }
    }
    const method = supported === true ? formatOf(config).method : undefined
    return closing(await openCheckpoint(folder, { stem: PEFT_STEM }), {
      ...{ kind: 'adapter', name: folder.name, config, supported },
      ...(method !== undefined && { method }),
    })
  }
  const config = (await folder.has('config.json'))
    ? configIn(await folder.text('config.json'), `${folder.name}/config.json`, 'download it again')
    : undefined
  let supported: boolean | string = false
  if (config)
    try {
      architectureOf(config).config(config)
      supported = true
    } catch (error) {
      supported = (error as Error).message
    }
  return closing(await openCheckpoint(folder), {
    kind: config ? 'model' : 'checkpoint',
    name: folder.name,
    ...(config && { config, supported }),
  })
}

const closing = async (checkpoint: Checkpoint, rest: Parameters<typeof reportOf>[1]): Promise<Report> => {
  try {
    return reportOf(checkpoint, rest)
  } finally {
    await checkpoint.close()
  }
}

/** a GGUF file: its metadata, long lists as their length, and its tensors */
const ofGguf = async (path: string): Promise<Report> => {
  const file = await openGguf(await fromFile(path))
  try {
    const tensors = [...file.tensors.values()].map(({ name, type, shape, start, end }) => ({
      ...{ name, dtype: type, shape, bytes: end - start },
    }))
    const dtypes: Record<string, number> = {}
    for (const t of tensors) dtypes[t.dtype] = (dtypes[t.dtype] ?? 0) + 1
    const said = (value: unknown): string =>
      Array.isArray(value) || ArrayBuffer.isView(value)
        ? `${(value as ArrayLike<unknown>).length} values`
        : typeof value === 'string'
          ? value
          : String(value)
    const adapter = file.metadata.get('general.type')?.value === 'adapter'
    return {
      ...{ kind: adapter ? 'adapter' : 'model', name: basename(path), dtypes, tensors },
      ...(adapter && file.metadata.get('adapter.type')?.value === 'lora' && { method: 'lora' }),
      parameters: tensors.reduce((n, t) => n + t.shape.reduce((p, d) => p * d, 1), 0),
      bytes: tensors.reduce((n, t) => n + t.bytes, 0),
      metadata: Object.fromEntries([...file.metadata].map(([key, { value }]) => [key, said(value)])),
    }
  } finally {
    await file.close()
  }
}

/** a ComPEFT file: an adapter, with what is left of its numbers */
const ofCompeft = (path: string, data: Uint8Array): Report => {
  const { tensors, about, values, ternary } = readCompeft(data, { file: path })
  const { numbers, kept, scale } = tallyOf(ternary)
  const wide = values ? 'its own magnitude' : `±${scale.toPrecision(4)}`
  return {
    ...{ kind: 'adapter', name: basename(path), parameters: numbers, bytes: data.length, dtypes: {} },
    ...(about && { config: configIn(about, `${path}: its config`, 'make the file again') }),
    metadata: {
      'compeft.kept': `${kept} of ${numbers} (${((100 * kept) / numbers).toFixed(2)} %), each ${wide}`,
      'compeft.bits': `${((8 * data.length) / numbers).toFixed(3)} a number`,
    },
    tensors: tensors.map(({ name, shape }) => {
      const n = shape.reduce((p, d) => p * d, 1)
      return { name, dtype: 'ternary', shape, bytes: Math.ceil((data.length * n) / numbers) }
    }),
  }
}
const configIn = (about: string, path: string, remedy: string): Config => {
  try {
    return JSON.parse(about) as Config
  } catch (error) {
    throw new Failure(`${path}: not valid JSON (${(error as Error).message}); ${remedy}`)
  }
}

export const inspect = async ({ args: [where], flag }: Call): Promise<number> => {
  const found = where === 'mini' ? undefined : await stat(where!).catch(() => undefined)
  const gguf = found?.isFile() && (where!.endsWith('.gguf') || (await isGgufFile(where!)))
  const compeft = gguf || !found ? undefined : await compeftIn(where!)
  if (found?.isFile() && !gguf && !compeft && !where!.endsWith('.safetensors') && !where!.endsWith('.index.json'))
    throw new Failure(
      `${where}: not a safetensors file; name one, or a folder that holds one (GGUF and ComPEFT files are read, too)`,
    )
  const report = gguf
    ? await ofGguf(where!)
    : compeft
      ? ofCompeft(where!, compeft)
      : found?.isFile()
        ? where!.endsWith('.index.json')
          ? await ofFolder(nodeFolder(dirname(where!)))
          : await closing(await openSafetensors(await fromFile(where!)), { kind: 'checkpoint', name: basename(where!) })
        : await ofFolder(found ? nodeFolder(where!) : await openFolder(where!))
  if (flag('json')) {
    printJson(report)
    return 0
  }
  print(
    `${report.kind} ${report.name}: ${report.tensors.length} tensors, ${report.parameters.toLocaleString('en')} values, ${size(report.bytes)}`,
  )
  if (report.method !== undefined) print(`  method: ${report.method}`)
  if (report.config)
    for (const [key, value] of Object.entries(report.config))
      if (value !== null) print(`  ${key}: ${JSON.stringify(value)}`)
  if (typeof report.supported === 'string') print(`  Weft cannot run it: ${report.supported}`)
  for (const [key, value] of Object.entries(report.metadata))
    print(`  metadata ${key}: ${value.length > 100 ? `${value.slice(0, 100)}...` : value}`)
  const wide = Math.max(0, ...report.tensors.map((t) => t.name.length))
  for (const t of report.tensors) print(`  ${t.name.padEnd(wide)}  ${t.dtype.padEnd(7)} [${t.shape.join(', ')}]`)
  return 0
}
