/** A side for tests of the harness: takes as long as it is told, and fails where it is told. */
import { serve } from './serve.ts'

interface Options {
  readonly ms: number
  readonly check?: number
  /** the unit that ends the process */
  readonly fails?: number
  readonly says?: string
}

await serve(async ({ ms, check, fails, says }: Options) => {
  let n = 0
  if (says) console.log(says)
  return {
    facts: { ms },
    unit: async () => {
      if (++n === fails) throw new Error(`unit ${n} fails as told`)
      await new Promise((resolve) => setTimeout(resolve, ms))
      return { ms, count: n, ...(check !== undefined && { check }) }
    },
  }
})
