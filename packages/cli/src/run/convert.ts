import { resolve } from 'node:path'
import { readPeftConfig, toLora } from '@weftjs/lora'
import { rng } from '@weftjs/tensor'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { Failure, usage } from '../fail.ts'
import {
  adapterFolder,
  adapterFolders,
  configOf,
  modelNamed,
  openAdapters,
  openFolder,
  openNetwork,
} from '../models.ts'
import { guardOut } from '../out.ts'
import { sizeOf, told, writeLora } from '../ready.ts'
import { counted, print, printJson, status, statusDone } from '../terminal.ts'

const TARGETS: Readonly<Record<string, (call: Call) => Promise<number>>> = {
  lora: (call) => convertToLora(call),
  compeft: async (call) => (await import('./compeft.ts')).convertToCompeft(call),
  peft: async (call) => (await import('./peft.ts')).convertToPeft(call),
  gguf: async (call) => (await import('./gguf-lora.ts')).convertToGguf(call),
  moe: async (call) => (await import('./moe.ts')).convertToMoe(call),
}
/** the target that the ending of OUT names */
const ENDINGS: Readonly<Record<string, string>> = { '.gguf': 'gguf', '.cpft': 'compeft' }
/** which targets an option is for */
const ONLY: Readonly<Record<string, readonly string[]>> = {
  ...{ rank: ['lora'], variance: ['lora'], model: ['lora', 'peft', 'gguf'], dtype: ['gguf'] },
  ...{ keep: ['compeft'], alpha: ['compeft'], magnitude: ['compeft'] },
  ...{ experts: ['moe'], top: ['moe'], seed: ['moe'] },
}

export const convert = async (call: Call): Promise<number> => {
  const ending = Object.keys(ENDINGS).find((end) => call.args[1]!.endsWith(end))
  const to = call.text('to') ?? (ending === undefined ? 'lora' : ENDINGS[ending]!)
  if (!Object.hasOwn(TARGETS, to)) throw usage(`--to must be one of ${Object.keys(TARGETS).join(', ')}, found '${to}'`)
  const odd = Object.keys(ONLY).find((o) => !ONLY[o]!.includes(to) && call.text(o) !== undefined)
  if (odd !== undefined) throw usage(`--${odd} is for --to ${ONLY[odd]!.join(', ')}, found --to ${to}; leave it out`)
  return TARGETS[to]!(call)
}

const convertToLora = async (call: Call): Promise<number> => {
  const {
    args: [path, out],
    text,
    flag,
  } = call
  const size = sizeOf(call, 'convert')
  const folders = await adapterFolders([path!])
  for (const folder of folders) await guardOut(resolve(out!), nodeFolder(folder))
  const given = text('model')
  const config = await readPeftConfig(
    await adapterFolder(folders[0]!, given === undefined ? undefined : await configOf(given)),
  )
  const named = config.base_model_name_or_path ?? undefined
  const model = await modelNamed(path!, named, given)
  await startBackend(text('backend'))
  const network = await openNetwork(await openFolder(model))
  const { tuned, params } = await openAdapters(network, folders, rng(0))
  const whole = Object.keys(params).filter((n) => n in tuned.network.weights || n in tuned.network.vectors)
  if (whole.length)
    throw new Failure(
      `${path}: has trained more than its adapter (${whole.slice(0, 3).join(', ')}${whole.length > 3 ? ', …' : ''}), which no LoRA holds; fold it, and extract what it is`,
    )
  const deltas = await toLora(tuned, {
    ...{ params, ...size },
    onProgress: ({ site, sites, of }) => status(`${counted(sites, of)}  ${site}`),
  })
  statusDone()
  const written = await writeLora(deltas, out!, {
    ...(named !== undefined && { base: named }),
    ...(config.task_type !== undefined && { task: config.task_type }),
  })
  const from = [...new Set(tuned.bound.map((b) => b.adapter.name))]
  if (flag('json')) printJson({ out, from, ...written })
  else print(`${told(written, out!)}, from ${from.join(', ')}`)
  return 0
}
