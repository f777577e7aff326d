import { type ShiraOptions, shira } from '../../shira.ts'
import { type PeftFormat, whole } from '../format.ts'

/** SHIRA  —  huggingface/peft, tuners/shira: values and places, whatever mask they came from */
export const format: PeftFormat = {
  type: 'SHIRA',
  method: 'shira',
  fields: {
    rank: whole('r', 1, { fallback: 32, of: ({ state, site }) => state['values']!.size / (site.in + site.out) }),
  },
  fixed: { mask_type: 'random', random_seed: null, init_weights: true, fan_in_fan_out: false },
  make: (options) => shira(options as ShiraOptions),
  parts: { values: 'shira_weight', places: 'shira_indices' },
}
