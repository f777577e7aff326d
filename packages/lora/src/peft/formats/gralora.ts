import { type GraloraOptions, gralora } from '../../gralora.ts'
import { chance, number, type PeftFormat, starts, whole } from '../format.ts'
import { mustTake } from '../places.ts'
import { fanInFanOut } from './lora.ts'

/** GRALORA  —  huggingface/peft, tuners/gralora */
export const format: PeftFormat = {
  type: 'GRALORA',
  method: 'gralora',
  fields: {
    rank: whole('r', 1, { fallback: 32 }),
    alpha: number('alpha', { fallback: 64 }),
    parts: whole('gralora_k', 1, { fallback: 2 }),
    hybrid: whole('hybrid_r', 0, { fallback: 0 }),
    dropout: chance('gralora_dropout'),
    init: starts('init_weights'),
  },
  make: (options) => gralora(options as GraloraOptions),
  config: (held) => {
    mustTake('GRALORA', held, { conv1d: true })
    return { fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }
  },
  parts: { a: 'gralora_A', b: 'gralora_B', ga: 'gralora_A_general.weight', gb: 'gralora_B_general.weight' },
}
