/** Claims of what trains in few bits: claims/quant/NAME.ts exports `claims`, whose margins are asked for on mini, seed by seed. */
import { readdirSync } from 'node:fs'
import { basename } from 'node:path'
import { root } from '../tools/source.ts'
import { journal, spread } from './journal.ts'
import { type Claim, laboratory, type Result } from './lab.ts'
import type { TrainingRow } from './table.ts'

export const TRAINED: readonly string[] = readdirSync(`${root}claims/quant`)
  .map((file) => basename(file, '.ts'))
  .sort()

export interface TrainingOptions {
  /** of TRAINED */
  readonly names: readonly string[]
  readonly seeds: readonly number[]
  readonly resume: boolean
  /** asked between two runs */
  readonly stopped: () => boolean
  readonly onStatus: (text: string) => void
  readonly onRow: (row: TrainingRow) => void
}

/** rows that are whole */
export const trainingRows = async (options: TrainingOptions): Promise<TrainingRow[]> => {
  const { names, seeds, resume, stopped, onStatus, onRow } = options
  const known = journal('quant-training', { anew: !resume })
  const lab = await laboratory({
    recall: (key) => {
      if (stopped()) throw new Error('stopped')
      return known.get(key) as Result | undefined
    },
    remember: known.set,
    onStep: (what, step, steps) => onStatus(`${what}: ${step}/${steps}`),
  })
  const rows: TrainingRow[] = []
  for (const method of names) {
    const { claims } = (await import(`${root}claims/quant/${method}.ts`)) as { claims: readonly Claim[] }
    for (const { says, metric, note, margin } of claims) {
      try {
        const margins: number[] = []
        for (const seed of seeds) margins.push(await margin(seed, lab))
        const holds = margins.every((m) => m > 0)
        rows.push({
          ...{ method, claim: says, metric, ...spread(margins), seeds: seeds.length, holds },
          ...(note && { note }),
        })
      } catch (error) {
        if (stopped()) return rows
        throw error
      }
      onRow(rows.at(-1)!)
    }
  }
  return rows
}
