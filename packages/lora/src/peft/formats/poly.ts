import { type PolyOptions, poly } from '../../poly.ts'
import { type PeftFormat, whole } from '../format.ts'

/** POLY  —  huggingface/peft, tuners/poly: the rows of a batch say their tasks as `inputs.task` */
export const format: PeftFormat = {
  type: 'POLY',
  method: 'poly',
  fields: {
    rank: whole('r', 1, { fallback: 8 }),
    tasks: whole('n_tasks', 1, { fallback: 1 }),
    skills: whole('n_skills', 1, { fallback: 4 }),
    heads: whole('n_splits', 1, { fallback: 1 }),
  },
  inert: { poly_type: ['poly'] },
  fixed: { poly_type: 'poly', init_weights: true },
  make: (options) => poly(options as PolyOptions),
  config: ([first]) => {
    const { alpha = 1, trains } = first!.adapter.options as PolyOptions
    if (alpha !== 1) throw new Error(`poly: PEFT has no alpha, and here it is ${alpha}; scale B by it and take 1`)
    if (trains === 'average') throw new Error("poly: PEFT has no gates that are all alike; save with trains 'all'")
    return {}
  },
  parts: { a: 'poly_lora_A', b: 'poly_lora_B', z: 'poly_router.module_logits' },
}
