import { reshape } from '@weftjs/tensor'
import { type BoftOptions, boft } from '../../boft.ts'
import { chance, type PeftFormat, shaped, starts, whole } from '../format.ts'
import { mustTake } from '../places.ts'

const of = (options: object): BoftOptions => options as BoftOptions

/** BOFT  —  huggingface/peft, tuners/boft, without convolutions; several factors where PEFT had its CUDA extension */
export const format: PeftFormat = {
  type: 'BOFT',
  method: 'boft',
  fields: {
    block: whole('boft_block_size', 0, {
      fallback: 4,
      read: (v) => v || undefined,
      write: (v, o) => v ?? (of(o).blocks === undefined ? 4 : 0),
    }),
    blocks: whole('boft_block_num', 0, { fallback: 0, read: (v) => v || undefined, write: (v) => v ?? 0 }),
    // without its extension PEFT makes one factor whatever the config says: the tensor knows
    factors: whole('boft_n_butterfly_factor', 1, { fallback: 1, of: ({ state }) => state['r']!.shape[0] }),
    dropout: chance('boft_dropout'),
    init: starts('init_weights'),
  },
  make: (options) => boft(options as BoftOptions),
  config: (held) => {
    mustTake('BOFT', held)
    return { fan_in_fan_out: false }
  },
  parts: { r: 'boft_R', s: { name: 'boft_s', layout: shaped(reshape, ([out]) => [out!, 1]) } },
}
