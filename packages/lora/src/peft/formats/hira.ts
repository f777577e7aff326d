import { transpose } from '@weftjs/tensor'
import { type HiraOptions, hira } from '../../hira.ts'
import { chance, oneOf, type PeftFormat, turned, whole } from '../format.ts'
import { mustTake } from '../places.ts'
import { fanInFanOut } from './lora.ts'

/** HIRA  —  huggingface/peft, tuners/hira, without convolutions */
export const format: PeftFormat = {
  type: 'HIRA',
  method: 'hira',
  fields: {
    // PEFT 0.21 has a rank_pattern and gives every matrix r all the same
    rank: whole('r', 1, { fallback: 32, of: ({ state }) => state['a']!.shape[0] }),
    dropout: chance('hira_dropout'),
    init: oneOf('init_weights', [true, false, 'gaussian'], true, {
      read: (v) => (v === 'gaussian' ? v : undefined),
      write: (v) => (v === 'gaussian' ? v : true),
      start: true,
    }),
  },
  make: (options) => hira(options as HiraOptions),
  config: (held) => {
    mustTake('HIRA', held, { conv1d: true, embedding: true })
    return { fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }
  },
  // of an embedding: A [r, V], B [D, r], as in LoRA
  parts: ({ site }) => {
    if (site.kind !== 'embed') return { a: 'hira_A', b: 'hira_B' }
    const layout = turned((t) => transpose(t))
    return { b: { name: 'hira_embedding_A', layout }, a: { name: 'hira_embedding_B', layout } }
  },
}
