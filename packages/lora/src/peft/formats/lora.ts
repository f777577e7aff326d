import type { Site } from '@weftjs/spec'
import { transpose } from '@weftjs/tensor'
import { type LoraOptions, lora, loraScale } from '../../lora.ts'
import { patterned } from '../../shared/pattern.ts'
import type { PeftConfig } from '../config.ts'
import {
  chance,
  type Field,
  flag,
  type Held,
  number,
  oneOf,
  type Part,
  type PeftFormat,
  turned,
  whole,
} from '../format.ts'

/** r and α of a LoRA at a site as PEFT counts them; the rank is that of the tensors, which a start may have chosen */
const rankOf = ({ state }: Held): number => state['a']!.shape[0]!
const alphaOf = (held: Held): number => {
  const options = (held.adapter.options ?? {}) as LoraOptions
  const rank = rankOf(held)
  const { factor } = loraScale(options)(held.site)
  return tidied(factor * (options.rslora ? Math.sqrt(rank) : rank))
}
/** a whole number, where rounding alone keeps it from being one */
export const tidied = (x: number): number => (Math.abs(x - Math.round(x)) < 1e-9 * Math.abs(x) ? Math.round(x) : x)

/** PEFT lets a rank be above its matrix's */
export const anyRank = (config: PeftConfig, targets: readonly Site[]): { anyRank?: true } => {
  const own = patterned((config['rank_pattern'] ?? {}) as Record<string, number>, 'adapter_config.json: rank_pattern')
  const rank = (s: Site): number => own(s.module) ?? (config['r'] as number)
  return targets.some((s) => s.weight && rank(s) > Math.min(...s.weight.shape)) ? { anyRank: true } : {}
}

/** what every LoRA of PEFT has, whatever it is called here */
export const loraFields: Readonly<Record<'rank' | 'alpha' | 'rslora' | 'dropout' | 'loraBias' | 'init', Field>> = {
  rank: whole('r', 1, { pattern: 'rank_pattern', of: rankOf }),
  alpha: number('lora_alpha', { pattern: 'alpha_pattern', of: alphaOf }),
  rslora: flag('use_rslora', false),
  dropout: chance('lora_dropout'),
  loraBias: flag('lora_bias', false),
  init: oneOf('init_lora_weights', [true, false, 'gaussian', 'orthogonal', 'eva'], true, {
    read: (v) => (v === 'gaussian' || v === 'orthogonal' ? v : undefined),
    write: (v) => (v === 'gaussian' || v === 'orthogonal' ? v : true),
    start: true,
  }),
}

/** fields that change what the tensors of a LoRA mean, and the values under which they do not */
export const loraInert: Readonly<Record<string, readonly unknown[]>> = {
  use_dora: [false],
  use_qalora: [false],
  ensure_weight_tying: [false],
  use_bdlora: [false],
  megatron_config: [],
  target_parameters: [],
  alora_invocation_tokens: [],
  arrow_config: [],
  kasa_config: [],
  velora_config: [],
  monteclora_config: [],
}

/** A [r, in], B [out, r]; of an embedding PEFT: delta = (B·A)ᵀ with A [r, V], B [D, r] */
export const loraParts = ({ site, state }: Held): Readonly<Record<string, string | Part>> => {
  if (site.kind !== 'embed')
    return { a: 'lora_A.weight', b: 'lora_B.weight', ...(state['bias'] && { bias: 'lora_B.bias' }) }
  if (state['bias'])
    throw new Error(`${site.name}: PEFT has no lora_bias for an embedding; train without "loraBias" here`)
  const layout = turned((t) => transpose(t))
  return { b: { name: 'lora_embedding_A', layout }, a: { name: 'lora_embedding_B', layout } }
}

/** does PEFT keep this matrix as [in, out]? */
export const fanInFanOut = (sites: readonly Site[]): boolean => sites.some((s) => s.transposed)

/** LORA as PEFT has it since its first release  —  huggingface/peft, tuners/lora */
export const format: PeftFormat = {
  type: 'LORA',
  method: 'lora',
  fields: loraFields,
  inert: loraInert,
  make: (options) => lora(options as LoraOptions),
  options: anyRank,
  config: (held) => ({ fan_in_fan_out: fanInFanOut(held.map((h) => h.site)) }),
  parts: loraParts,
}
