import { heldOf } from '../claims/recipes.ts'
import { allMethods } from '../tools/source.ts'
import { metric } from './harness/rows.ts'
import type { Bench, Match, RowSpec } from './harness/types.ts'
import { SMOL } from './sides/shape.ts'

/** four blocks: what a method costs beside LoRA does not change with their number */
const shape = { ...SMOL, layers: 4, vocabulary: 8192 }

/** every method that the comparison trains, or those that WEFT_ADAPTERS=a,b names */
export const compared = async (): Promise<string[]> => {
  const only = process.env['WEFT_ADAPTERS']?.split(',')
  const methods: string[] = []
  for (const m of allMethods().filter((m) => m.family === 'lora'))
    if (m.name !== 'lora' && (!only || only.includes(m.name)) && (await heldOf(m)).recipe) methods.push(m.name)
  return methods
}

/** one process for all methods: LoRA and the method take turns in it */
const matches = async (): Promise<readonly Match[]> => {
  const methods = await compared()
  const row = (name: string, of: RowSpec['of'], ofTheirs: RowSpec['of'], goal: number): RowSpec => ({
    ...{ peer: 'our LoRA', metric: name, ours: 'ours', theirs: 'ours', of, ofTheirs, better: 'less', goal },
  })
  return [
    {
      sides: { ours: { label: 'Weft', script: 'weft-adapters.ts', options: { methods, shape, length: 256 } } },
      ...{ rounds: 1, warmup: 0 },
      rows: methods.flatMap((m) => [
        row(`${m}: ms a step`, metric(`${m}.ms`), metric(`${m}.lora`), 1 / 1.5),
        row(`${m}: peak MB of tensors`, metric(`${m}.peak`), metric('lora.peak'), 1 / 1.5),
      ]),
    },
  ]
}

export const bench: Bench = {
  question:
    "what every adapter costs beside LoRA: a step of four blocks of SmolLM2's width, T=256, and the most bytes of tensors",
  matches,
}
