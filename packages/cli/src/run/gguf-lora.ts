import { mkdir, stat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { type PeftConfig, readPeftConfig } from '@weftjs/lora'
import { ggufAdapter, peftModules, writeGguf } from '@weftjs/quant'
import { fileSink } from '@weftjs/tensor/checkpoint/file'
import { startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { Failure, usage } from '../fail.ts'
import { adapterFolder, configOf, isGgufFile, modelNamed, oneAdapter } from '../models.ts'
import { print, printJson, size } from '../terminal.ts'

const DTYPES = ['F32', 'F16', 'BF16'] as const
/** what toLora says as factors of a rank; what else there is beside a LoRA is the model's to keep */
const FACTORS = ['use_dora', 'use_qalora', 'use_bdlora', 'kasa_config']

/** what to do where llama.cpp has no place for it */
const remedyFor = (config: PeftConfig, path: string): string => {
  const start = config['init_lora_weights'] ?? true
  const other =
    config.peft_type !== 'LORA' || FACTORS.some((key) => config[key]) || (typeof start === 'string' && start !== 'eva')
  return other && !config.modules_to_save?.length && !config['layer_replication']
    ? `weft convert ${path} DIR --to lora --rank N makes a LoRA of it`
    : `weft fold MODEL --adapter ${path} --out DIR puts it into the model, and weft quantize DIR OUT.gguf --codec gguf:TYPE writes that`
}

/** a LoRA as the GGUF file that llama.cpp takes with --lora */
export const convertToGguf = async ({ args: [path, out], text, flag }: Call): Promise<number> => {
  const type = (text('dtype') ?? 'F32') as (typeof DTYPES)[number]
  if (!DTYPES.includes(type)) throw usage(`--dtype must be ${DTYPES.join(', ')}, found '${type}'`)
  const target = resolve(out!)
  if ((await stat(target).catch(() => undefined))?.isDirectory())
    throw new Failure(`${out}: a folder, and a GGUF file is written; name a file in it, such as ${out}/adapter.gguf`)
  const own = await oneAdapter(path!)
  if (await isGgufFile(own)) throw new Failure(`${path}: is a GGUF file already; --to peft makes it a folder`)
  await startBackend(text('backend') ?? 'cpu')
  const folder = await adapterFolder(own)
  const about = await readPeftConfig(folder)
  const withRemedy = (error: unknown): never => {
    const { name, message } = error as Error
    if (name !== 'CheckpointError') throw error
    const found = message.replace(/; (merge the adapter into the model and export that|leave it out)/, '')
    throw found === message ? error : new Failure(`${found}; ${remedyFor(about, path!)}`)
  }
  const { modules, checkpoint, ...rest } = await peftModules(folder).catch(withRemedy)
  try {
    const config = await configOf(await modelNamed(path!, about.base_model_name_or_path, text('model')))
    const base = rest.base ?? text('model')
    const make = (): ReturnType<typeof ggufAdapter> => {
      try {
        return ggufAdapter({ ...rest, config, modules, type, name: basename(resolve(own)), ...(base && { base }) })
      } catch (error) {
        return withRemedy(error)
      }
    }
    const file = make()
    await mkdir(dirname(target), { recursive: true })
    await writeGguf(await fileSink(target), file)
  } finally {
    await checkpoint.close()
  }
  const bytes = (await stat(target)).size
  const ranks = modules.map((m) => m.rank)
  const rank = [Math.min(...ranks), Math.max(...ranks)]
  const parameters = modules.reduce((n, m) => n + m.rank * (m.in + m.out), 0)
  if (flag('json')) printJson({ out, sites: modules.length, rank, parameters, bytes })
  else
    print(
      `${out}: LoRA of rank ${rank[0] === rank[1] ? rank[0] : rank.join(' to ')} at ${modules.length} matrices, ${parameters.toLocaleString('en')} parameters, ${size(bytes)} in ${type}`,
    )
  return 0
}
