import { type LohaState, loha } from '@weftjs/lora/loha'
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
] as const

export const about: About<typeof fields> = {
  title: 'LoHa',
  summary: 'The product, number by number, of two pairs of thin matrices.',
  fields,
}

/** W + (α/r)·(B₁A₁ ⊙ B₂A₂)  —  Hyeon-Woo et al., arXiv:2108.06098 */
export const make = (options: Values<typeof fields>): Adapter<LohaState> => loha(options)
