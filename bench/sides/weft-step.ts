/** A training step of ours: LoRA on q and v, or all parameters. */
import { lora } from '@weftjs/lora'
import { attach, nextToken } from '@weftjs/model'
import { adamw, type Step, train } from '@weftjs/optim'
import { nf4, quantize } from '@weftjs/quant'
import type { Params } from '@weftjs/spec'
import { bytesOf, peakBytes, rng, tensor, wasm } from '@weftjs/tensor'
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
  /** keep only each block's input for the backward pass */
  readonly recompute?: boolean
  /** make no step while setting up: the first unit is the first step */
  readonly cold?: boolean
}

await serve(
  async ({
    shape,
    length,
    rank,
    batch = 1,
    backend = 'wasm',
    nf4: packed,
    recompute = false,
    cold = false,
  }: Options): Promise<Work> => {
    const { device } = backend === 'webgpu' ? await nodeWebgpu() : await wasm()
    const dispatches = backend === 'webgpu' ? countDispatches() : undefined
    const whole = networkOf(shape)
    const network = packed ? await quantize(whole, nf4({ double: true }), { consume: true }) : whole
    const blocks = Object.entries(network.weights).filter(([n]) => n.startsWith('blocks.'))
    const stored = blocks.reduce((n, [, w]) => n + bytesOf(w.parts), 0)
    const bits = (stored * 8) / blocks.reduce((n, [, { shape }]) => n + shape[0] * shape[1], 0)
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
      loss: (p: Params, b) => nextToken(tuned.run(p, { ids }, { training: true, recompute }), b),
      transform: adamw({ lr: 1e-3 }),
    })
    const unit = async (): Promise<Record<string, number>> => {
      const before = dispatches?.()
      const { value } = await steps.next()
      if (!value) throw new Error('the training has ended')
      const { loss, tensors, bytes } = value
      return {
        ...{ check: loss, tensors, bytes, peakBytes: peak.bytes, bits },
        ...(before !== undefined && { dispatches: dispatches!() - before }),
      }
    }
    const check = cold ? undefined : (await unit())['check']
    const facts = { device, trained: Object.values(params).reduce((n, p) => n + p.size, 0) }
    return { facts, ...(check !== undefined && { check }), unit }
  },
)
