import { type LokrOptions, lokr } from '../../lokr.ts'
import { chance, flag, number, oneOf, type PeftFormat, whole } from '../format.ts'
import { mustTake } from '../places.ts'

/** LOKR  —  huggingface/peft, tuners/lokr, without convolutions */
export const format: PeftFormat = {
  type: 'LOKR',
  method: 'lokr',
  fields: {
    rank: whole('r', 1, { fallback: 8, pattern: 'rank_pattern' }),
    alpha: number('alpha', { fallback: 8, pattern: 'alpha_pattern' }),
    decomposeBoth: flag('decompose_both', false),
    factor: whole('decompose_factor', -1, { fallback: -1 }),
    rankDropout: chance('rank_dropout'),
    rankDropoutScale: flag('rank_dropout_scale', false, { start: true }),
    moduleDropout: chance('module_dropout'),
    init: oneOf('init_weights', [true, false, 'lycoris'], true, {
      read: (v) => (v === 'lycoris' ? v : undefined),
      write: (v) => (v === 'lycoris' ? v : true),
      start: true,
    }),
  },
  fixed: { use_effective_conv2d: false },
  make: (options) => lokr(options as LokrOptions),
  config: (held) => {
    mustTake('LOKR', held)
    return {}
  },
  parts: { c: 'lokr_w1', ca: 'lokr_w1_a', cb: 'lokr_w1_b', d: 'lokr_w2', da: 'lokr_w2_a', db: 'lokr_w2_b' },
}
