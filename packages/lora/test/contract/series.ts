import type { SeriesOptions } from '../../src/series.ts'
import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { width: 4 },
    { width: 4, place: 'before', activation: 'gelu', scale: 'learned', dropout: 0.2 },
    { width: 3, init: 'normal', bias: true, scale: 2 },
    { width: 4, activation: 'identity' },
    { width: 4, activation: 'identity', place: 'before', scale: 0.5 },
  ],
  suite: ({ init }: SeriesOptions) => ({ startsAsIdentity: init !== 'normal' }),
}
