import type { LoftqOptions } from '../../loftq.ts'
import { type LoraOptions, lora } from '../../lora.ts'
import type { PeftConfig } from '../config.ts'
import type { PeftFormat } from '../format.ts'
import { startFields, startInert, startsAs } from '../mutated.ts'
import { loraFields, loraParts } from './lora.ts'

const roundsOf = ({ loftq_config: found }: PeftConfig): unknown =>
  (found as { loftq_iter?: number } | null | undefined)?.loftq_iter ?? 1

/**
 * `loftq` with one round is a LoRA on the packed base: it is read where the base is packed, and written as a plain LoRA of
 * it. More rounds leave a base that only its own checkpoint holds.
 */
export const format: PeftFormat = {
  type: 'LORA',
  method: 'loftq',
  when: startsAs('loftq'),
  inert: startInert,
  fields: {
    ...startFields('loftq'),
    init: { ...loraFields.init, test: (v) => v === 'loftq' || loraFields.init.test(v) },
  },
  make: (options) => lora(options as LoraOptions),
  options: (config, targets) => {
    const odd = targets.find((s) => !s.weight?.codec)
    if (odd || roundsOf(config) !== 1)
      throw new Error(
        `${(odd ?? targets[0]!).name}: init_lora_weights is "loftq": the adapter stands on the base as LoftQ packed it${odd ? ', and this base is not packed' : ' in several rounds'}; load the base that was saved with it, and set init_lora_weights to true`,
      )
    return {}
  },
  config: (held) => {
    const more = held.find(({ adapter }) => ((adapter.options as LoftqOptions).rounds ?? 1) > 1)
    if (more)
      throw new Error(
        `${more.site.name}: after ${(more.adapter.options as LoftqOptions).rounds} rounds of LoftQ the base is no longer the packed one, and a PEFT file does not hold it; train with one round, or fold the adapter and save the model`,
      )
    return {}
  },
  parts: loraParts,
}
