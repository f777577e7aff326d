import type { Tensor } from '@weftjs/spec'
import { gather, numbersNow, tensor1d } from '@weftjs/tensor'
import { type AdaloraOptions, adalora } from '../../adalora.ts'
import { chance, type Held, type Layout, number, type PeftFormat, starts, whole } from '../format.ts'
import { fanInFanOut, loraInert } from './lora.ts'

/** which triplets of a site act, where that can be asked; all of them may be written at any time */
const acting = ({ state }: Held): number[] | undefined => {
  const mask = state['mask'] && numbersNow(state['mask'])
  const found = mask && Array.from(mask.length ? mask : []).flatMap((v, i) => (v ? [i] : []))
  return found && found.length < mask.length ? found : undefined
}
const some = (places: readonly number[], axis: 0 | 1): Layout => ({
  shape: (s) => s.map((n, i) => (i === axis ? places.length : n)),
  write: (t: Tensor) => gather(t, tensor1d([...places], 'int32'), axis),
  read: () => {
    throw new Error('adalora: this adapter has cut ranks itself; attach what fromPeft gives')
  },
})
const startOf = ({ adapter }: Held): number => (adapter.options as AdaloraOptions).start ?? 12

/** ADALORA  —  huggingface/peft, tuners/adalora, without convolutions: triplets that were cut are left out */
export const format: PeftFormat = {
  type: 'ADALORA',
  method: 'adalora',
  fields: {
    start: whole('init_r', 1, { fallback: 12 }),
    rank: whole('target_r', 1, { fallback: 8, start: true }),
    alpha: number('lora_alpha', { fallback: 8 }),
    dropout: chance('lora_dropout'),
    warm: whole('tinit', 0, { fallback: 0, start: true }),
    final: whole('tfinal', 0, { fallback: 0, start: true }),
    every: whole('deltaT', 1, { fallback: 1, start: true }),
    b1: number('beta1', { fallback: 0.85, start: true }),
    b2: number('beta2', { fallback: 0.85, start: true }),
    orthogonal: number('orth_reg_weight', { fallback: 0.5, start: true }),
    init: starts('init_lora_weights'),
  },
  inert: { ...loraInert, trainable_token_indices: [], alpha_pattern: [], use_rslora: [false], lora_bias: [false] },
  fixed: { r: 8 },
  options: ({ rank_pattern: found }, targets) => {
    if (!found) return {}
    const pattern = found as Readonly<Record<string, readonly boolean[]>>
    const ranks = targets.flatMap((s) => {
      const own = pattern[`${s.module}.lora_E`]
      return own ? [[s.name, own.filter(Boolean).length] as const] : []
    })
    return { ranks: Object.fromEntries(ranks) }
  },
  make: (options) => adalora(options as AdaloraOptions),
  config: (held) => {
    const odd = held.find((h) => h.site.kind === 'embed')
    if (odd) throw new Error(`${odd.site.name}: PEFT's AdaLoRA adapts no embedding; train it without`)
    const { warm = 0, final = 0 } = held[0]!.adapter.options as AdaloraOptions
    const pattern = held.map((h) => {
      const places = acting(h) ?? Array.from({ length: h.state['a']!.shape[0]! }, (_, i) => i)
      return [`${h.site.module}.lora_E`, Array.from({ length: startOf(h) }, (_, i) => places.includes(i))] as const
    })
    return {
      fan_in_fan_out: fanInFanOut(held.map((h) => h.site)),
      total_step: warm + final + 1,
      rank_pattern: pattern.every(([, own]) => own.every(Boolean)) ? null : Object.fromEntries(pattern),
    }
  },
  parts: (held) => {
    const places = acting(held)
    const of = (name: string, axis: 0 | 1): { name: string; layout?: Layout } => ({
      name,
      ...(places && { layout: some(places, axis) }),
    })
    return { a: of('lora_A', 0), b: of('lora_B', 1), e: of('lora_E', 0) }
  },
}
