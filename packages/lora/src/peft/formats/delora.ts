import { type DeloraOptions, delora } from '../../delora.ts'
import { chance, number, type PeftFormat, starts, whole } from '../format.ts'

/** DELORA  —  huggingface/peft, tuners/delora */
export const format: PeftFormat = {
  type: 'DELORA',
  method: 'delora',
  fields: {
    rank: whole('r', 1, { fallback: 8, pattern: 'rank_pattern', of: ({ state }) => state['a']!.shape[0] }),
    lambda: number('delora_lambda', { fallback: 15, pattern: 'lambda_pattern', start: true }),
    dropout: chance('module_dropout'),
    init: starts('init_weights'),
  },
  make: (options) => delora(options as DeloraOptions),
  parts: { a: 'delora_A', b: 'delora_B', lambda: 'delora_lambda', norm: 'delora_w_norm' },
}
