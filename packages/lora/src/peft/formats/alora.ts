import { type AloraOptions, alora } from '../../alora.ts'
import type { PeftFormat } from '../format.ts'
import { format as lora, loraFields, loraInert } from './lora.ts'

const { alora_invocation_tokens: _, ...inert } = loraInert
const isList = (v: unknown): boolean => Array.isArray(v) && v.length > 0

/** LORA with alora_invocation_tokens  —  huggingface/peft, tuners/lora/variants.py */
export const format: PeftFormat = {
  ...lora,
  method: 'alora',
  when: (config) => isList(config['alora_invocation_tokens']),
  fields: {
    ...loraFields,
    tokens: {
      key: 'alora_invocation_tokens',
      test: (v) => isList(v) && (v as unknown[]).every((t) => Number.isInteger(t) && (t as number) >= 0),
      wanted: 'a list of token ids',
    },
  },
  inert,
  make: (options) => alora(options as AloraOptions),
}
