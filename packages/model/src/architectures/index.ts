import type { Config } from '@weftjs/spec'
import type { Architecture } from './architecture.ts'
import { bert } from './bert.ts'
import { gemma } from './gemma.ts'
import { gemma2 } from './gemma2.ts'
import { gemma3, gemma3Multimodal } from './gemma3.ts'
import { gpt2 } from './gpt2.ts'
import { llama } from './llama.ts'
import { mistral } from './mistral.ts'
import { mixtral } from './mixtral.ts'
import { qwen2 } from './qwen2.ts'
import { qwen3 } from './qwen3.ts'
import { qwen2Moe, qwen3Moe } from './qwen3-moe.ts'
import { roberta } from './roberta.ts'
import { vit } from './vit.ts'

export { type Architecture, type Name, namesOf } from './architecture.ts'
export const architectures: readonly Architecture[] = [
  llama,
  mistral,
  mixtral,
  qwen2,
  qwen2Moe,
  qwen3,
  qwen3Moe,
  gemma,
  gemma2,
  gemma3,
  gemma3Multimodal,
  gpt2,
  bert,
  roberta,
  vit,
]

/** the architecture of a config.json, or an error that says which are supported */
export const architectureOf = (source: Config, among: readonly Architecture[] = architectures): Architecture => {
  const type = source['model_type']
  const found = among.find((a) => a.types.includes(type as string))
  if (found) return found
  throw new Error(
    `config.json: model_type ${JSON.stringify(type)} is not supported; supported are ${among.flatMap((a) => a.types).join(', ')}`,
  )
}
