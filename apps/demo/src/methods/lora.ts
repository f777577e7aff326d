import { type LoraState, lora } from '@weftjs/lora/lora'
import type { Adapter } from '@weftjs/spec'
import { type About, alpha, dropout, rank, type Values } from '../fields.ts'

const fields = [
  rank,
  alpha,
  dropout,
  {
    kind: 'check',
    name: 'rslora',
    label: 'rsLoRA',
    value: false,
    more: true,
    help: 'strength alpha/√rank, not alpha/rank',
  },
] as const

export const about: About<typeof fields> = {
  title: 'LoRA',
  summary: 'Two thin matrices stand beside each chosen one, and only those learn.',
  fields,
}

/** W + (α/r)·B·A  —  Hu et al., arXiv:2106.09685 */
export const make = (options: Values<typeof fields>): Adapter<LoraState> => lora(options)
