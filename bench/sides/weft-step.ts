/** A training step of ours: LoRA on q and v, or all parameters. */
import { lora } from '@weftjs/lora'
import { attach, nextToken } from '@weftjs/model'
import { adamw, type Step, train } from '@weftjs/optim'
import { nf4, quantize } from '@weftjs/quant'
import type { Params } from '@weftjs/spec'
import { peakBytes, rng, tensor, wasm } from '@weftjs/tensor'
import { nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { countDispatches } from './gpu.ts'
import { networkOf, withSameA } from './network.ts'
import { serve, type Work } from './serve.ts'
import { idsOf, type Shape } from './shape.ts'

interface Options {
  readonly shape: Shape
  readonly length: number
  readonly rank?: number
  readonly batch?: number
  readonly backend?: 'wasm' | 'webgpu'
  readonly nf4?: boolean
}

await serve(async ({ shape, length, rank, batch = 1, backend = 'wasm', nf4: packed }: Options): Promise<Work> => {
  const { device } = backend === 'webgpu' ? await nodeWebgpu() : await wasm()
  const dispatches = backend === 'webgpu' ? countDispatches() : undefined
  const whole = networkOf(shape)
  const network = packed ? await quantize(whole, nf4({ nested: true } as never), { consume: true }) : whole
  const at = 'blocks.*.attn.{q,v}'
  const tuned = rank
    ? attach(network, [{ adapter: lora({ rank }), at }], rng(0))
    : attach(network, [], rng(0), { train: '**' })
  const params = rank ? withSameA(tuned.params, shape, rank) : tuned.params
  const raw = idsOf(shape.vocabulary, length, batch)
  const targets = Int32Array.from(raw, (_, i) => ((i + 1) % length ? raw[i + 1]! : -100))
  const ids = tensor(raw, [batch, length], 'int32')
  function* data(): Generator<{ targets: Int32Array; shape: [number, number] }> {
    for (;;) yield { targets, shape: [batch, length] }
  }
  const peak = peakBytes()
  const steps: AsyncGenerator<Step> = train({
    params,
    data: data(),
    loss: (p: Params, b) => nextToken(tuned.run(p, { ids }, { training: true }), b),
    transform: adamw({ lr: 1e-3 }),
  })
  const unit = async (): Promise<Record<string, number>> => {
    const before = dispatches?.()
    const { value } = await steps.next()
    if (!value) throw new Error('the training has ended')
    const { loss, tensors, bytes } = value
    return {
      ...{ loss, tensors, bytes, peakBytes: peak.bytes },
      ...(before !== undefined && { dispatches: dispatches!() - before }),
    }
  }
  const first = await unit()
  const facts = { device, trained: Object.values(params).reduce((n, p) => n + p.size, 0) }
  return { facts, ...(first['loss'] !== undefined && { loss: first['loss'] }), unit }
})
