import { type HraOptions, hra } from '../../hra.ts'
import { flag, type PeftFormat, starts, whole } from '../format.ts'
import { mustTake } from '../places.ts'

/** HRA  —  huggingface/peft, tuners/hra, without convolutions */
export const format: PeftFormat = {
  type: 'HRA',
  method: 'hra',
  fields: {
    rank: whole('r', 1, { fallback: 8 }),
    orthogonal: flag('apply_GS', false),
    init: starts('init_weights'),
  },
  make: (options) => hra(options as HraOptions),
  config: (held) => {
    mustTake('HRA', held)
    return {}
  },
  parts: { u: 'hra_u' },
}
