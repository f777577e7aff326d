import { type HydraState, hydra } from '@weftjs/lora/hydra'
import type { Adapter } from '@weftjs/spec'
import type { About, Values } from '../fields.ts'

const fields = [
  { kind: 'number', name: 'parallel', label: 'Rank beside', value: 4, min: 0, max: 4096 },
  { kind: 'number', name: 'sequential', label: 'Rank behind', value: 4, min: 0, max: 4096 },
] as const

export const about: About<typeof fields> = {
  title: 'Hydra',
  summary: 'One LoRA beside the matrix, and one behind it.',
  fields,
}

/** W + B₁A₁ + B₂A₂W  —  Kim et al., arXiv:2309.06922 */
export const make = (options: Values<typeof fields>): Adapter<HydraState> => hydra(options)
