import { type OloraOptions, olora } from '../../olora.ts'
import type { PeftFormat } from '../format.ts'
import { mustBeAgain, mustBeFound, startFields, startInert, startsAs } from '../mutated.ts'
import { loraParts } from './lora.ts'

/** `olora`: whoever reads the file takes the same factors from the base again */
export const format: PeftFormat = {
  type: 'LORA',
  method: 'olora',
  when: startsAs('olora'),
  fields: startFields('olora'),
  inert: startInert,
  always: { init_lora_weights: 'olora' },
  check: mustBeFound('olora'),
  make: (options) => olora(options as OloraOptions),
  config: (held) => {
    mustBeAgain(held)
    return {}
  },
  parts: loraParts,
}
