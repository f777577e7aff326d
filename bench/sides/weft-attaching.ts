/** Seconds that each adapter takes to be put on a model of 135 million parameters. */
import { wasm } from '@weftjs/tensor'
import { started } from './adapter.ts'
import { networkOf } from './network.ts'
import { serve, type Work } from './serve.ts'
import type { Shape } from './shape.ts'

await serve(async ({ methods, shape }: { methods: readonly string[]; shape: Shape }): Promise<Work> => {
  const { device } = await wasm()
  const network = networkOf(shape)
  ;(await started('lora', network, shape.vocabulary, 64)).drop() // the code is warm
  const unit = async (): Promise<Record<string, number>> => {
    const found: Record<string, number> = {}
    for (const method of methods) {
      try {
        const { seconds, drop } = await started(method, network, shape.vocabulary, 64)
        found[method] = seconds
        drop()
      } catch (error) {
        console.error(`${method}: ${(error as Error).message.slice(0, 160)}`)
      }
    }
    return found
  }
  return { facts: { device }, unit }
})
