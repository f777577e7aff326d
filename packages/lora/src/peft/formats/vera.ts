import { type VeraOptions, vera } from '../../vera.ts'
import type { PeftConfig } from '../config.ts'
import { chance, number, type PeftFormat, starts, whole } from '../format.ts'
import { mustTake } from '../places.ts'
import { fanInFanOut } from './lora.ts'

/** by PEFT's generator, bit by bit */
const leftOut = (config: PeftConfig): boolean => config['save_projection'] === false

/** VERA  —  huggingface/peft, tuners/vera: A and B once for all modules; where a file leaves them out, they are drawn again */
export const format: PeftFormat = {
  type: 'VERA',
  method: 'vera',
  fields: {
    rank: whole('r', 1, { fallback: 256 }),
    initial: number('d_initial', { fallback: 0.1, start: true }),
    seed: whole('projection_prng_key', 0, { fallback: 0 }),
    dropout: chance('vera_dropout'),
    init: starts('init_weights'),
  },
  always: { save_projection: true },
  make: (options) => vera(options as VeraOptions),
  config: (held) => {
    mustTake('VERA', held, { conv1d: true })
    return { fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }
  },
  parts: { d: 'vera_lambda_d', b: 'vera_lambda_b' },
  shared: { a: { name: 'base_model.vera_A', drawn: leftOut }, b: { name: 'base_model.vera_B', drawn: leftOut } },
}
