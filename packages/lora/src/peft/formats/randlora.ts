import { type RandloraOptions, randlora } from '../../randlora.ts'
import type { PeftConfig } from '../config.ts'
import { chance, flag, number, type PeftFormat, starts, whole } from '../format.ts'
import { mustTake } from '../places.ts'
import { fanInFanOut } from './lora.ts'

const of = (options: object): RandloraOptions => options as RandloraOptions

/** by PEFT's generator, bit by bit */
const leftOut = (config: PeftConfig): boolean => config['save_projection'] === false

/** RANDLORA  —  huggingface/peft, tuners/randlora: A and B once for all modules; where a file leaves them out, they are drawn again */
export const format: PeftFormat = {
  type: 'RANDLORA',
  method: 'randlora',
  fields: {
    rank: whole('r', 1, { fallback: 32 }),
    alpha: number('randlora_alpha', { write: (v, o) => v ?? 20 * (of(o).rank ?? 32) }),
    seed: whole('projection_prng_key', 0, { fallback: 0 }),
    bases: flag('sparse', false, {
      read: (v, { very_sparse: very }) => (very ? 'very-sparse' : v ? 'sparse' : undefined),
      write: (v) => v === 'sparse',
    }),
    very: flag('very_sparse', false, { read: () => undefined, write: (_, o) => of(o).bases === 'very-sparse' }),
    dropout: chance('randlora_dropout'),
    init: starts('init_weights'),
  },
  always: { save_projection: true },
  make: (options) => randlora(options as RandloraOptions),
  config: (held) => {
    mustTake('RANDLORA', held, { conv1d: true })
    return { fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }
  },
  parts: { lambda: 'randlora_lambda', gamma: 'randlora_gamma' },
  copies: { a: 'randlora_A', b: 'randlora_B' },
  shared: {
    a: { name: 'base_model.randlora_A', drawn: leftOut },
    b: { name: 'base_model.randlora_B', drawn: leftOut },
  },
}
