import { type RoadOptions, road } from '../../road.ts'
import { oneOf, type PeftFormat, starts, whole } from '../format.ts'
import { mustTake } from '../places.ts'

/** ROAD  —  huggingface/peft, tuners/road */
export const format: PeftFormat = {
  type: 'ROAD',
  method: 'road',
  fields: {
    variant: oneOf('variant', ['road_1', 'road_2', 'road_4'], 'road_1', {
      read: (v) => Number(String(v).split('_')[1]),
      write: (v) => `road_${v ?? 1}`,
    }),
    group: whole('group_size', 2, { fallback: 64 }),
    init: starts('init_weights'),
  },
  make: (options) => road(options as RoadOptions),
  config: (held) => {
    mustTake('ROAD', held)
    return {}
  },
  parts: { theta: 'road_theta', alpha: 'road_alpha' },
}
