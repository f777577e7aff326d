import { type RsloraOptions, rslora } from '../../rslora.ts'
import type { PeftFormat } from '../format.ts'
import { fanInFanOut, loraFields, loraInert, loraParts } from './lora.ts'

/** written as a LoRA with `use_rslora`, and read as that */
export const format: PeftFormat = {
  type: 'LORA',
  method: 'rslora',
  when: () => false,
  inert: loraInert,
  fields: { ...loraFields, rslora: { ...loraFields.rslora, write: () => true } },
  always: { use_rslora: true },
  make: (options) => rslora(options as RsloraOptions),
  config: (held) => ({ fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }),
  parts: loraParts,
}
