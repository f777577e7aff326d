import { type MissState, miss } from '@weftjs/lora/miss'
import type { Adapter } from '@weftjs/spec'
import type { About, Values } from '../fields.ts'

const fields = [
  {
    kind: 'number',
    name: 'rank',
    label: 'Rank',
    value: 16,
    min: 1,
    max: 4096,
    help: 'more numbers to train, more to remember',
  },
] as const

export const about: About<typeof fields> = {
  title: 'MiSS',
  summary: 'One thin matrix, whose rows are shared by groups of inputs.',
  fields,
}

/** y + (Σ over groups of x)·D  —  Kang & Yin, arXiv:2409.15371 */
export const make = (options: Values<typeof fields>): Adapter<MissState> => miss(options)
