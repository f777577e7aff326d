import { type VeraState, vera } from '@weftjs/lora/vera'
import type { Adapter } from '@weftjs/spec'
import { type About, dropout, rank, type Values } from '../fields.ts'

const fields = [{ ...rank, value: 256, help: 'of the random pair' }, dropout] as const

export const about: About<typeof fields> = {
  title: 'VeRA',
  summary: 'One pair of random matrices for all places; only two thin vectors learn at each.',
  fields,
}

/** W + diag(b)·B·diag(d)·A  —  Kopiczko et al., arXiv:2310.11454 */
export const make = (options: Values<typeof fields>): Adapter<VeraState> => vera(options)
