import { type DeloraState, delora } from '@weftjs/lora/delora'
import type { Adapter } from '@weftjs/spec'
import { type About, rank, type Values } from '../fields.ts'

const fields = [rank] as const

export const about: About<typeof fields> = {
  title: 'DeLoRA',
  summary: 'LoRA whose columns have length one; how far it goes is a number of its own.',
  fields,
}

/** W + λ‖W‖/r·B·Ξ·A  —  Bini et al., arXiv:2503.18225 */
export const make = (options: Values<typeof fields>): Adapter<DeloraState> => delora(options)
