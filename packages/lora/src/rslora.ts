import type { Adapter, Site } from '@weftjs/spec'
import { type LoraOptions, type LoraState, lora, trainable as ofLora } from './lora.ts'

export type RsloraOptions = Omit<LoraOptions, 'rslora'>
export type RsloraState = LoraState

/** numbers that train at a site: r·(in + out), and out more with a bias */
export const trainable = (site: Site, options: RsloraOptions = {}): number => ofLora(site, options)

/** W + (α/√r)·B·A, so that a higher rank does not learn more slowly  —  Kalajdzievski, arXiv:2312.03732 */
export const rslora = (options: RsloraOptions = {}): Adapter<RsloraState> => ({
  ...lora({ ...options, rslora: true }),
  name: 'rslora',
  options: { ...options },
})
