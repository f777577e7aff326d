import { type DoraOptions, dora } from '../../dora.ts'
import type { PeftFormat } from '../format.ts'
import { anyRank, fanInFanOut, loraFields, loraInert, loraParts } from './lora.ts'

const { loraBias: _, ...fields } = loraFields

/** LORA with `use_dora`  —  huggingface/peft, tuners/lora/dora.py */
export const format: PeftFormat = {
  type: 'LORA',
  method: 'dora',
  when: (config) => config['use_dora'] === true,
  fields,
  inert: { ...loraInert, use_dora: [true], lora_bias: [false] },
  always: { use_dora: true },
  make: (options) => dora(options as DoraOptions),
  options: anyRank,
  config: (held) => ({ fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }),
  parts: (held) => ({ ...loraParts(held), m: 'lora_magnitude_vector' }),
}
