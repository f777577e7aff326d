import { type SsfState, ssf } from '@weftjs/lora/ssf'
import type { Adapter } from '@weftjs/spec'
import type { About } from '../fields.ts'

const fields = [] as const

export const about: About<typeof fields> = {
  title: 'SSF',
  summary: 'Each output is multiplied and shifted by learned numbers.',
  fields,
}

/** γ ⊙ y + β  —  Lian et al., arXiv:2210.08823 */
export const make = (): Adapter<SsfState> => ssf()
