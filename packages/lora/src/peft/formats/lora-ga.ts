import { type LoraGaOptions, loraGa } from '../../lora-ga.ts'
import type { PeftFormat } from '../format.ts'
import { mustBeConverted, mustBeFound, startFields, startInert, startsAs } from '../mutated.ts'
import { loraParts } from './lora.ts'

/** `lora_ga`: neither read nor written as it is, since the base that it began from is in no file; converted it is a plain LoRA */
export const format: PeftFormat = {
  type: 'LORA',
  method: 'lora-ga',
  when: startsAs('lora_ga'),
  fields: startFields('lora_ga'),
  inert: startInert,
  check: mustBeFound('lora_ga', 'was found from gradients'),
  make: (options) => loraGa(options as LoraGaOptions),
  config: mustBeConverted,
  parts: loraParts,
}
