import { type VeraState, vera } from '@weftjs/lora/vera'
import type { Adapter } from '@weftjs/spec'
import type { About, Values } from '../fields.ts'

const fields = [
  { kind: 'number', name: 'rank', label: 'Rank', value: 256, min: 1, max: 4096, help: 'of the random pair' },
  {
    kind: 'number',
    name: 'dropout',
    label: 'Dropout',
    value: 0,
    min: 0,
    max: 0.9,
    step: 'any',
    more: true,
    help: 'share of the inputs left out at random',
  },
] as const

export const about: About<typeof fields> = {
  title: 'VeRA',
  summary: 'One pair of random matrices for all places; only two thin vectors learn at each.',
  fields,
}

/** W + diag(b)·B·diag(d)·A  —  Kopiczko et al., arXiv:2310.11454 */
export const make = (options: Values<typeof fields>): Adapter<VeraState> => vera(options)
