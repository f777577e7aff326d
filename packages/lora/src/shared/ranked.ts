import type { Site } from '@weftjs/spec'
import { patterned } from './pattern.ts'
import { mustBeNumber } from './start.ts'

export interface Ranked {
  /** r */
  readonly rank?: number
  /** the update is scaled by α/r */
  readonly alpha?: number
  /** rank or α of sites whose name matches the pattern, a regular expression on the end of the name, as in PEFT */
  readonly rankPattern?: Readonly<Record<string, number>>
  readonly alphaPattern?: Readonly<Record<string, number>>
}

/** rank that the options of `method` give a site, and the factor α/r of its update; both are 8 by default, as in PEFT */
export const ranked = (method: string, options: Ranked): ((site: Site) => { rank: number; factor: number }) => {
  const { rank = 8, alpha = 8, rankPattern = {}, alphaPattern = {} } = options
  mustBeNumber(`${method}: alpha`, alpha)
  const ranks = patterned(rankPattern, `${method}: rankPattern`)
  const alphas = patterned(alphaPattern, `${method}: alphaPattern`)
  return ({ name, module }) => {
    const r = ranks(name, module) ?? rank
    return { rank: r, factor: (alphas(name, module) ?? alpha) / r }
  }
}
