import { type EvaOptions, eva, evaFactor } from '../../eva.ts'
import type { Held, PeftFormat } from '../format.ts'
import { fanInFanOut, loraFields, loraInert, loraParts, tidied } from './lora.ts'

/** α as PEFT counts it, of the rank that the site has won */
const alphaOf = ({ site, adapter, state }: Held): number => {
  const options = (adapter.options ?? {}) as EvaOptions
  const rank = state['a']!.shape[0]!
  return tidied(evaFactor(options)(site, rank) * (options.rslora ? Math.sqrt(rank) : rank))
}

/** written as the plain LoRA that it is once its ranks are given, with PEFT's patterns of ranks and alphas, and read as that */
export const format: PeftFormat = {
  type: 'LORA',
  method: 'eva',
  when: () => false,
  inert: loraInert,
  fields: { ...loraFields, alpha: { ...loraFields.alpha, of: alphaOf } },
  make: (options) => eva(options as EvaOptions),
  config: (held) => ({ fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }),
  parts: loraParts,
}
