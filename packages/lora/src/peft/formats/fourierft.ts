import { type FourierftOptions, fourierft } from '../../fourierft.ts'
import { number, oneOf, type PeftFormat, whole } from '../format.ts'
import { mustTake } from '../places.ts'
import { fanInFanOut } from './lora.ts'

/** FOURIERFT  —  huggingface/peft, tuners/fourierft: the places of the spectrum are drawn again from their seed */
export const format: PeftFormat = {
  type: 'FOURIERFT',
  method: 'fourierft',
  fields: {
    frequencies: whole('n_frequency', 1, { fallback: 1000, pattern: 'n_frequency_pattern' }),
    scale: number('scaling', { fallback: 150 }),
    seed: whole('random_loc_seed', 0, { fallback: 777 }),
    init: oneOf('init_weights', [true, false], false, {
      read: (v) => (v ? 'zero' : undefined),
      write: (v) => v === 'zero',
      start: true,
    }),
  },
  make: (options) => fourierft(options as FourierftOptions),
  config: (held) => {
    mustTake('FOURIERFT', held, { conv1d: true })
    return { fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }
  },
  parts: { c: 'fourierft_spectrum' },
}
