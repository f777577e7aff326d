/** Greedy answers of ours, without an end token, so that every one is as long as asked. */
import { attach, complete } from '@weftjs/model'
import { rng, wasm } from '@weftjs/tensor'
import { networkOf } from './network.ts'
import { serve } from './serve.ts'
import { idsOf, type Shape } from './shape.ts'

interface Options {
  readonly shape: Shape
  readonly batch: number
  readonly prompt: number
  readonly tokens: number
}

await serve(async ({ shape, batch, prompt, tokens }: Options) => {
  const { device } = await wasm()
  const tuned = attach(networkOf(shape), [], rng(0))
  const ids = idsOf(shape.vocabulary, prompt, batch)
  const prompts = Array.from({ length: batch }, (_, b) => [...ids.subarray(b * prompt, (b + 1) * prompt)])
  const unit = async (): Promise<Record<string, number>> => {
    const answers = await complete(tuned, prompts, { maxTokens: tokens, ends: [], batch })
    const first = answers.flatMap((a) => a.ids.slice(0, 8))
    if (answers.some((a) => a.ids.length !== tokens)) throw new Error('an answer ended early')
    return { check: first.reduce((n, id) => n + id, 0) / first.length }
  }
  const { check } = await unit()
  return { facts: { device }, ...(check !== undefined && { check }), unit }
})
