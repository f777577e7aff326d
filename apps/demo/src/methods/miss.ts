import { type MissState, miss } from '@weftjs/lora/miss'
import type { Adapter } from '@weftjs/spec'
import { type About, rank, type Values } from '../fields.ts'

const fields = [{ ...rank, value: 16 }] as const

export const about: About<typeof fields> = {
  title: 'MiSS',
  summary: 'One thin matrix, whose rows are shared by groups of inputs.',
  fields,
}

/** y + (Σ over groups of x)·D  —  Kang & Yin, arXiv:2409.15371 */
export const make = (options: Values<typeof fields>): Adapter<MissState> => miss(options)
