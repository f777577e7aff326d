/** Seconds that an adapter takes to be put on a model of 135 million parameters. */
import { wasm } from '@weftjs/tensor'
import { useLapack } from '@weftjs/tensor/linalg'
import { started } from './adapter.ts'
import { networkOf } from './network.ts'
import { serve, type Work } from './serve.ts'
import type { Shape } from './shape.ts'

await serve(async ({ method, shape }: { method: string; shape: Shape }): Promise<Work> => {
  const { device } = await wasm()
  await useLapack()
  const network = networkOf(shape)
  ;(await started('lora', network, shape.vocabulary, 64)).drop() // the code is warm
  const unit = async (): Promise<{ seconds: number }> => {
    const { seconds, drop } = await started(method, network, shape.vocabulary, 64)
    drop()
    return { seconds }
  }
  return { facts: { device }, unit }
})
