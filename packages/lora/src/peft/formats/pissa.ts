import { type PissaOptions, pissa } from '../../pissa.ts'
import { isWhole } from '../../shared/residual.ts'
import type { PeftFormat } from '../format.ts'
import { mustBeAgain, mustBeConverted, mustBeFound, startFields, startInert, startsAs } from '../mutated.ts'
import { fanInFanOut, loraParts } from './lora.ts'

/** `pissa`: whoever reads the file takes the same factors from the base again, by the whole SVD */
export const format: PeftFormat = {
  type: 'LORA',
  method: 'pissa',
  when: startsAs('pissa'),
  fields: startFields('pissa'),
  inert: startInert,
  always: { init_lora_weights: 'pissa' },
  check: mustBeFound('pissa'),
  make: (options) => pissa(options as PissaOptions),
  options: () => ({ niter: 0 }),
  config: (held) => {
    mustBeAgain(held, { turned: true })
    const drawn = held.filter(
      ({ site, adapter }) => !isWhole((adapter.options as PissaOptions).niter, site.weight!.shape),
    )
    if (drawn.length) mustBeConverted(drawn)
    return { fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }
  },
  parts: loraParts,
}
