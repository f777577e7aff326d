import { type MissOptions, miss } from '../../miss.ts'
import { chance, oneOf, type PeftFormat, whole } from '../format.ts'

/** MISS, and its "mini"  —  huggingface/peft, tuners/miss */
export const format: PeftFormat = {
  type: 'MISS',
  method: 'miss',
  fields: {
    rank: whole('r', 1, { fallback: 64, of: ({ state }) => state['c']!.shape[0] }),
    // a number that says something only beside init_weights "mini"
    mini: whole('mini_r', 1, {
      fallback: null,
      read: (v, { init_weights: init }) => (init === 'mini' ? (v ?? 1) : undefined),
      write: (v) => v ?? 1,
    }),
    init: oneOf('init_weights', [true, false, 'mini'], true, {
      read: () => undefined,
      write: (_, { mini }) => (mini === undefined ? true : 'mini'),
    }),
    dropout: chance('miss_dropout'),
  },
  make: (options) => miss(options as MissOptions),
  parts: { c: 'miss_block' },
}
