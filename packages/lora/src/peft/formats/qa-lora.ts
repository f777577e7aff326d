import { mul, type Tensor } from '@weftjs/tensor'
import { type QaLoraOptions, qaLora } from '../../qa-lora.ts'
import { type Layout, type PeftFormat, starts, whole } from '../format.ts'
import { fanInFanOut, loraFields, loraInert } from './lora.ts'

const { use_qalora: _, ...inert } = loraInert
const { rank, alpha, rslora, dropout } = loraFields

/** the file's A is ours times `factor` */
const times = (factor: number): Layout => ({
  shape: (s) => s,
  write: (t: Tensor) => mul(t, factor),
  read: (t: Tensor) => mul(t, 1 / factor),
})

/** LORA with use_qalora, which PEFT knows over GPTQ's layers  —  huggingface/peft, tuners/lora/variants.py */
export const format: PeftFormat = {
  type: 'LORA',
  method: 'qa-lora',
  when: (config) => config['use_qalora'] === true,
  fields: {
    ...{ rank, alpha, rslora, dropout },
    group: whole('qalora_group_size', 1, {
      fallback: 16,
      of: ({ site, state }) => site.weight!.shape[1] / state['a']!.shape[1]!,
    }),
    init: starts('init_lora_weights', [true, false, 'gaussian', 'orthogonal']),
  },
  inert: { ...inert, lora_bias: [false] },
  always: { use_qalora: true },
  make: (options) => qaLora(options as QaLoraOptions),
  config: (held) => ({ fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }),
  // PEFT reads the mean of a group, times how many groups there are, where we read its sum
  parts: ({ site, state }) => {
    const groups = state['a']!.shape[1]!
    return {
      a: { name: 'lora_A.weight', layout: times(site.weight!.shape[1] / groups / groups) },
      b: 'lora_B.weight',
    }
  },
}
