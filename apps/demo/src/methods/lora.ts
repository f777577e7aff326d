import { type LoraState, lora } from '@weftjs/lora/lora'
import type { Adapter } from '@weftjs/spec'
import type { About, Values } from '../fields.ts'

const fields = [
  {
    kind: 'number',
    name: 'rank',
    label: 'Rank',
    value: 8,
    min: 1,
    max: 4096,
    help: 'more numbers to train, more to remember',
  },
  { kind: 'number', name: 'alpha', label: 'Alpha', value: 16, min: 0, max: 4096, step: 'any', help: 'strength' },
  {
    kind: 'number',
    name: 'dropout',
    label: 'Dropout',
    value: 0,
    min: 0,
    max: 0.9,
    step: 'any',
    more: true,
    help: 'share of the inputs left out at random',
  },
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
