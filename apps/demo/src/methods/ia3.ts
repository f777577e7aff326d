import { type Ia3State, ia3 } from '@weftjs/lora/ia3'
import type { Adapter } from '@weftjs/spec'
import type { About } from '../fields.ts'

const fields = [] as const

export const about: About<typeof fields> = {
  title: 'IA³',
  summary: 'Each output is multiplied by one learned number: very few numbers.',
  fields,
}

/** l ⊙ W  —  Liu et al., arXiv:2205.05638 */
export const make = (): Adapter<Ia3State> => ia3()
