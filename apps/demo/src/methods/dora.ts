import { type DoraState, dora } from '@weftjs/lora/dora'
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
] as const

export const about: About<typeof fields> = {
  title: 'DoRA',
  summary: 'LoRA, and the length of each row learns apart from its direction.',
  fields,
}

/** m ⊙ (W + BA)/‖W + BA‖  —  Liu et al., arXiv:2402.09353 */
export const make = (options: Values<typeof fields>): Adapter<DoraState> => dora(options)
