import { type LohaOptions, loha } from '../../loha.ts'
import { chance, number, type PeftFormat, starts, whole } from '../format.ts'
import { mustTake } from '../places.ts'

/** LOHA  —  huggingface/peft, tuners/loha, without convolutions */
export const format: PeftFormat = {
  type: 'LOHA',
  method: 'loha',
  fields: {
    rank: whole('r', 1, { fallback: 8, pattern: 'rank_pattern' }),
    alpha: number('alpha', { fallback: 8, pattern: 'alpha_pattern' }),
    rankDropout: chance('rank_dropout'),
    moduleDropout: chance('module_dropout'),
    init: starts('init_weights'),
  },
  fixed: { use_effective_conv2d: false },
  make: (options) => loha(options as LohaOptions),
  config: (held) => {
    mustTake('LOHA', held)
    return {}
  },
  parts: { x1: 'hada_w1_a', y1: 'hada_w1_b', x2: 'hada_w2_a', y2: 'hada_w2_b' },
}
