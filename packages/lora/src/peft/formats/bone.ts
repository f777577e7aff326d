import { type BoneOptions, bone } from '../../bone.ts'
import { oneOf, type PeftFormat, whole } from '../format.ts'

/** MISS with init_weights "bat"  —  huggingface/peft, tuners/miss */
export const format: PeftFormat = {
  type: 'MISS',
  method: 'bone',
  when: ({ init_weights: init }) => init === 'bat',
  fields: {
    rank: whole('r', 1, { fallback: 64, of: ({ state }) => state['b']!.shape[1] }),
    init: oneOf('init_weights', ['bat'], 'bat', { read: () => undefined, write: () => 'bat' }),
  },
  fixed: { mini_r: 1, miss_dropout: 0 },
  make: (options) => bone(options as BoneOptions),
  config: ([first]) => {
    if ((first!.adapter.options as BoneOptions).share === 'in')
      throw new Error("bone: PEFT's blocks share a tensor by outputs; train with share 'out' for a PEFT file")
    return {}
  },
  parts: { b: 'miss_block' },
}
