import { type CordaOptions, corda } from '../../corda.ts'
import type { PeftFormat } from '../format.ts'
import { mustBeConverted, mustBeFound, startFields, startInert, startsAs } from '../mutated.ts'
import { loraParts } from './lora.ts'

/** `corda`: neither read nor written as it is, since the base that it began from is in no file; converted it is a plain LoRA */
export const format: PeftFormat = {
  type: 'LORA',
  method: 'corda',
  when: startsAs('corda'),
  fields: startFields('corda'),
  inert: startInert,
  check: mustBeFound('corda', 'was found from data'),
  make: (options) => corda(options as CordaOptions),
  config: mustBeConverted,
  parts: loraParts,
}
