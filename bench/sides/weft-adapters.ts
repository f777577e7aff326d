/** A step of each adapter beside one of LoRA, in turns, and the most bytes of tensors while it trains. */
import { revising, type TransformerConfig } from '@weftjs/model'
import { cosine, type Step, train } from '@weftjs/optim'
import type { Batch, Network, Params } from '@weftjs/spec'
import { peakBytes, wasm } from '@weftjs/tensor'
import { batchOf, lossFor, transformFor } from '../../claims/lab.ts'
import { started } from './adapter.ts'
import { networkOf } from './network.ts'
import { serve, type Work } from './serve.ts'
import { idsOf, type Shape } from './shape.ts'

interface Options {
  readonly methods: readonly string[]
  readonly shape: Shape
  readonly length: number
}
/** steps of each, in turns, and how many of LoRA's and of the method's are not counted */
const [TURNS, WARM] = [4, 1] as const

await serve(async ({ methods, shape, length }: Options): Promise<Work> => {
  const { device } = await wasm()
  const network: Network<TransformerConfig> = networkOf(shape)
  const batch: Batch = batchOf([[...idsOf(shape.vocabulary, length + 1)]])

  /** steps of a method, one for each call, with the milliseconds that it took */
  const stepping = async (method: string): Promise<{ step(): Promise<number>; end(): Promise<void> }> => {
    const { recipe, setting, tuned, drop } = await started(method, network, shape.vocabulary, length)
    const live = revising(tuned, { steps: setting.steps })
    function* data(): Generator<Batch> {
      for (;;) yield batch
    }
    let last: Params = {}
    const steps: AsyncGenerator<Step> = train({
      params: tuned.params,
      data: data(),
      loss: (p: Params, b, { rng }) => lossFor(recipe)(live.tuned, p, b, rng),
      transform: transformFor(recipe, cosine(1e-4, { steps: 1000, warmup: 0 }), tuned, setting),
      ...(recipe.estimate && { estimate: recipe.estimate(tuned, setting) }),
      ...(live.active && { revise: live.revise }),
    })
    return {
      step: async () => {
        const begun = performance.now()
        const { value } = await steps.next()
        if (!value) throw new Error('the training has ended')
        last = value.params
        return performance.now() - begun
      },
      end: async () => {
        await steps.return(undefined)
        for (const t of [...Object.values(last), ...Object.values(live.buffers)]) if (!t.isDisposed) t.dispose()
        drop()
      },
    }
  }
  const peak = peakBytes()
  const median = (all: readonly number[]): number => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)]!

  const unit = async (): Promise<Record<string, number>> => {
    const found: Record<string, number> = {}
    peak.reset()
    const stands = peak.bytes
    const alone = await stepping('lora')
    for (let i = 0; i < 3; i++) await alone.step()
    found['lora.peak'] = peak.bytes / 1e6
    await alone.end()
    for (const method of methods) {
      try {
        peak.reset()
        const held = peak.bytes - stands // what earlier methods left is not this one's
        const ours = await stepping(method)
        for (let i = 0; i < WARM; i++) await ours.step()
        found[`${method}.peak`] = (peak.bytes - held) / 1e6
        const lora = await stepping('lora')
        const times: [ours: number, lora: number][] = []
        for (let i = 0; i < TURNS; i++) times.push([await ours.step(), await lora.step()])
        found[`${method}.ms`] = median(times.slice(1).map((t) => t[0]))
        found[`${method}.lora`] = median(times.slice(1).map((t) => t[1]))
        await ours.end()
        await lora.end()
        console.error(
          `${method}: ${found[`${method}.ms`]!.toFixed(0)} ms, LoRA ${found[`${method}.lora`]!.toFixed(0)}; ${found[`${method}.peak`]!.toFixed(0)} MB, LoRA ${found['lora.peak']!.toFixed(0)}`,
        )
      } catch (error) {
        console.error(`${method}: ${(error as Error).message.slice(0, 160)}`)
      }
    }
    return found
  }
  return { facts: { device }, unit }
})
