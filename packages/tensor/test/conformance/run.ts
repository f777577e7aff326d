import { env, setBackend } from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import * as w from '../../src/index.ts'
import { difference, evaluate, type Row } from './case.ts'
import { fused } from './kernels.ts'
import { ops } from './ops.ts'
import { layout } from './shapes.ts'

export { fused }
export const table: readonly Row[] = [...ops, ...layout, ...fused]

/** every small tensor too is computed by shaders, not handed to the CPU */
export const onlyShaders = (): void => env().set('WEBGPU_CPU_FORWARD', false)

/**
 * Runs a row on a backend and on the cpu, whose answers are right. Fused kernels run three times: on the cpu, and on
 * the backend as composed ops and as themselves. Fails with the smallest case found, and on a tensor left behind.
 */
export const conform = async (row: Row, backend: string, runs: number): Promise<void> => {
  const { tolerance = 1e-5 } = row
  const isFused = fused.includes(row)
  const on = async (name: string, c: Parameters<typeof evaluate>[0], plain = false) => {
    await setBackend(name)
    w.kernels.plain = plain
    try {
      return await evaluate(c)
    } finally {
      w.kernels.plain = false
    }
  }
  try {
    await fc.assert(
      fc.asyncProperty(row.cases, async (c) => {
        const right = await on('cpu', c, true)
        const ways = isFused ? [true, false] : [false]
        for (const plain of ways) {
          const { results, leak } = await on(backend, c, plain)
          const wrong =
            difference(results, right.results, tolerance) ?? (leak ? `${leak} tensors left behind` : undefined)
          if (wrong)
            throw new Error(
              `${row.name} on ${backend}${plain ? ', as composed ops' : ''}: ${wrong}; ${c.note ?? ''} inputs ${JSON.stringify(c.inputs)}`,
            )
        }
      }),
      { numRuns: runs, seed: 7, endOnFailure: true },
    )
  } finally {
    await setBackend('cpu')
  }
}
