import type { Config } from '@weftjs/spec'
import type { Architecture } from './architecture.ts'
import { llama } from './llama.ts'

export type { Architecture, Name } from './architecture.ts'
export const architectures: readonly Architecture[] = [llama]

/** the architecture of a config.json, or an error that says which are supported */
export const architectureOf = (source: Config, among: readonly Architecture[] = architectures): Architecture => {
  const type = source['model_type']
  const found = among.find((a) => a.types.includes(type as string))
  if (found) return found
  throw new Error(
    `config.json: model_type ${JSON.stringify(type)} is not supported; supported are ${among.flatMap((a) => a.types).join(', ')}`,
  )
}
