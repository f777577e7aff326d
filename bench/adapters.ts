import { heldOf } from '../claims/recipes.ts'
import { allMethods } from '../tools/source.ts'
import { beside, metric } from './harness/rows.ts'
import type { Bench, Match } from './harness/types.ts'
import { SMOL } from './sides/shape.ts'

const T = 256
/** four blocks: what a method costs beside LoRA does not change with their number */
const shape = { ...SMOL, layers: 4, vocabulary: 8192 }
/** starts that decompose every matrix */
const DECOMPOSE = new Set(['pissa', 'olora', 'loftq', 'eva', 'corda', 'kasa', 'svfit', 'loldu', 'dsee', 'loraGa'])

const matches = async (): Promise<readonly Match[]> => {
  const methods: string[] = []
  for (const m of allMethods().filter((m) => m.family === 'lora'))
    if (m.name !== 'lora' && (await heldOf(m)).recipe) methods.push(m.name)
  return methods.flatMap((method): Match[] => {
    const row = beside('our LoRA', 'ours', 'lora')
    const limit = DECOMPOSE.has(method) ? 20 : 2
    return [
      {
        sides: {
          ours: { label: method, script: 'weft-adapter.ts', options: { method, shape, length: T } },
          lora: { label: 'lora', script: 'weft-adapter.ts', options: { method: 'lora', shape, length: T } },
        },
        rounds: 5,
        rows: [
          row(`${method}: ms a step, at most 1.5 of LoRA's`, (u) => u.ms, 'less', { goal: 1 / 1.5 }),
          row(`${method}: peak MB of tensors`, metric('peak'), 'less', { goal: 1 / 1.5 }),
        ],
      },
      {
        sides: { ours: { label: method, script: 'weft-adapter.ts', options: { method, shape: SMOL, attach: true } } },
        rounds: 1,
        warmup: 0,
        rows: [
          {
            ...{ peer: 'its limit', metric: `${method}: seconds to attach to 135M`, ours: 'ours', theirs: 'ours' },
            ...{ of: (u) => u.ms / 1000, ofTheirs: () => limit, better: 'less', goal: 1 },
          },
        ],
      },
    ]
  })
}

export const bench: Bench = {
  question:
    "what every adapter costs beside LoRA: a step of four blocks of SmolLM2's width, T=256, and attaching to all 30",
  matches,
}
