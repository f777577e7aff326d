import { type LohaState, loha } from '@weftjs/lora/loha'
import type { Adapter } from '@weftjs/spec'
import { type About, alpha, rank, type Values } from '../fields.ts'

const fields = [rank, alpha] as const

export const about: About<typeof fields> = {
  title: 'LoHa',
  summary: 'The product, number by number, of two pairs of thin matrices.',
  fields,
}

/** W + (α/r)·(B₁A₁ ⊙ B₂A₂)  —  Hyeon-Woo et al., arXiv:2108.06098 */
export const make = (options: Values<typeof fields>): Adapter<LohaState> => loha(options)
