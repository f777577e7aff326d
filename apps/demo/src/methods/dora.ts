import { type DoraState, dora } from '@weftjs/lora/dora'
import type { Adapter } from '@weftjs/spec'
import { type About, alpha, dropout, rank, type Values } from '../fields.ts'

const fields = [rank, alpha, dropout] as const

export const about: About<typeof fields> = {
  title: 'DoRA',
  summary: 'LoRA, and the length of each row learns apart from its direction.',
  fields,
}

/** m ⊙ (W + BA)/‖W + BA‖  —  Liu et al., arXiv:2402.09353 */
export const make = (options: Values<typeof fields>): Adapter<DoraState> => dora(options)
