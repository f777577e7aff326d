/** Another side in a new process for each unit: from the start of the process to the end of its first unit. */
import { start } from '../harness/process.ts'
import type { Side } from '../harness/types.ts'
import { serve } from './serve.ts'

await serve(async ({ side, threads }: { side: Side; threads: number }) => ({
  unit: async () => {
    const begun = performance.now()
    const running = await start(side, { threads, python: process.env['WEFT_BENCH_PYTHON'] })
    await running.go()
    const ms = performance.now() - begun
    const { cpu, checks, peak } = await running.end()
    return { ms, cpu, peak: peak / 1e6, check: checks.at(-1)! }
  },
}))
