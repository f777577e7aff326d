import { lnTuning } from '../../ln-tuning.ts'
import type { PeftFormat } from '../format.ts'
import { peftTargets } from '../target.ts'

/** LN_TUNING  —  huggingface/peft, tuners/ln_tuning: a copy of each norm */
export const format: PeftFormat = {
  type: 'LN_TUNING',
  method: 'ln-tuning',
  fields: {},
  make: () => lnTuning(),
  check: ({ target_modules: found }) => {
    if (typeof found !== 'string' && !Array.isArray(found))
      throw new Error(
        'adapter_config.json: target_modules must be a list of module names or a regular expression, of norms here',
      )
  },
  // by the rules for any module, of which only the norms are asked
  targets: (config, sites) => {
    const norms = sites.filter((s) => s.kind === 'norm' && s.module !== undefined)
    const found = peftTargets(
      config,
      norms.map((s) => ({ ...s, weight: {} as never })),
    )
    return norms.filter((s) => found.some((f) => f.name === s.name))
  },
  parts: { scale: 'ln_tuning_layers.weight', bias: 'ln_tuning_layers.bias' },
}
