import { type VbLoraOptions, vbLora } from '../../vb-lora.ts'
import { chance, flag, number, type PeftFormat, whole } from '../format.ts'
import { fanInFanOut } from './lora.ts'

/** VBLORA  —  huggingface/peft, tuners/vblora */
export const format: PeftFormat = {
  type: 'VBLORA',
  method: 'vb-lora',
  fields: {
    rank: whole('r', 1, { fallback: 4 }),
    vectors: whole('num_vectors', 1, { fallback: 256 }),
    length: whole('vector_length', 1, { fallback: 256 }),
    top: whole('topk', 1, { fallback: 2 }),
    compact: flag('save_only_topk_weights', false),
    dropout: chance('vblora_dropout'),
    bound: number('init_vector_bank_bound', { fallback: 0.02, start: true }),
    std: number('init_logits_std', { fallback: 0.1, start: true }),
  },
  make: (options) => vbLora(options as VbLoraOptions),
  config: (held) => ({ fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }),
  parts: ({ adapter }) =>
    (adapter.options as VbLoraOptions).compact
      ? {
          a: 'vblora_logits_A_topk_weights',
          b: 'vblora_logits_B_topk_weights',
          aPlaces: 'vblora_logits_A_topk_indices',
          bPlaces: 'vblora_logits_B_topk_indices',
        }
      : { a: 'vblora_logits_A', b: 'vblora_logits_B' },
  shared: { bank: 'base_model.vblora_vector_bank' },
}
