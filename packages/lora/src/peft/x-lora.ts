import type { Folder } from '@weftjs/tensor/checkpoint'
import type { XLoraOptions } from '../x-lora.ts'
import type { PeftConfig } from './config.ts'
import type { Folders } from './format.ts'
import { format as lora } from './formats/lora.ts'
import { namedAdapter, pathOf } from './named.ts'
import { PEFT_CONFIG } from './names.ts'

/** under which the configs of the LoRAs stand in that of the gate, and their folders in theirs, once read; no file has it */
export const LORAS = 'weft_loras'
const AT = 'weft_folder'

export const lorasOf = (config: Readonly<Record<string, unknown>>): readonly PeftConfig[] => {
  const found = config[LORAS]
  if (Array.isArray(found)) return found
  throw new Error(`${PEFT_CONFIG}: an X-LoRA lies in several folders; read its config with readPeftConfig`)
}
export const folderOf = (folder: Folder, lora: PeftConfig): Folder => namedAdapter(folder, lora[AT] as string)

/** LoRAs lie under the names that the config has for them, or, as PEFT numbers them, under their numbers */
export const readLoras: Folders['read'] = async (config, folder, readConfig) => {
  const names = Object.keys((config['adapters'] ?? {}) as object)
  if (!names.length) throw new Error(`${PEFT_CONFIG}: names no adapters, and X-LoRA mixes some`)
  const loras = names.map(async (name, i) => {
    const there = await Promise.all([name, `${i}`].map((n) => folder.has(pathOf(n, PEFT_CONFIG))))
    const at = there[0] ? name : `${i}`
    if (!there.includes(true))
      throw new Error(
        `${PEFT_CONFIG}: mixes the LoRA ${JSON.stringify(name)}, and there is no ${at}/${PEFT_CONFIG}; put each LoRA into a folder of its name in this one, or pass withAdapters(folder, { ${JSON.stringify(name)}: its folder })`,
      )
    const own = await readConfig(namedAdapter(folder, at), [lora])
    if (own.modules_to_save?.length || (own.bias ?? 'none') !== 'none' || own['lora_bias'])
      throw new Error(`${at}/${PEFT_CONFIG}: has trained more than LoRA's two factors, which X-LoRA does not mix`)
    return { ...own, [AT]: at }
  })
  return { [LORAS]: await Promise.all(loras) }
}

export const GATE = 'base_model.internal_xlora_classifier.layers'
/** names of the gate's tensors, ours and the file's: between two linear layers stand ReLU and, where there is some, dropout */
export const gateNames = ({ depth = 1, dropout = 0.2 }: XLoraOptions): readonly (readonly [string, string])[] =>
  Array.from({ length: depth }, (_, i) => {
    const layer = `${GATE}.${(dropout ? 3 : 2) * i}`
    return [[`w${i}`, `${layer}.weight`] as const, [`b${i}`, `${layer}.bias`] as const]
  }).flat()

/** α/r of each LoRA */
export const factorsOf = ({ experts = 2, rank = 8, alpha = rank }: XLoraOptions): number[] =>
  Array.from({ length: experts }, (_, i) => (typeof alpha === 'number' ? alpha : alpha[i]!) / rank)
