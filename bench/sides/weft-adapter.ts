/** A training step of one adapter as its recipe in claims/ attaches it, or only the attaching. */
import { attach, calibrate, nextToken, revising, sitesOf } from '@weftjs/model'
import { adamw, cosine, type Step, train } from '@weftjs/optim'
import type { Batch, Params } from '@weftjs/spec'
import { dispose, peakBytes, rng, tensor, wasm } from '@weftjs/tensor'
import { batchOf, textTask } from '../../claims/lab.ts'
import { heldOf } from '../../claims/recipes.ts'
import { allMethods } from '../../tools/source.ts'
import { networkOf } from './network.ts'
import { serve, type Work } from './serve.ts'
import { idsOf, type Shape } from './shape.ts'

interface Options {
  readonly method: string
  readonly shape: Shape
  readonly length?: number
  readonly attach?: boolean
}

await serve(async ({ method, shape, length = 64, attach: only = false }: Options): Promise<Work> => {
  const { device } = await wasm()
  const found = allMethods().find((m) => m.family === 'lora' && m.name === method)
  if (!found) throw new Error(`there is no method ${method}`)
  const { recipe } = await heldOf(found)
  if (!recipe) throw new Error(`${method} has no recipe`)
  const bare = networkOf(shape)
  const network = (await recipe.network?.(bare)) ?? bare
  const ids = [...idsOf(shape.vocabulary, length + 1)]
  const batch: Batch = batchOf([ids])
  const task = textTask('numbers', [...idsOf(shape.vocabulary, 20_000)], { length, rows: 1 })
  const setting = { network, sites: sitesOf(network), rng: rng(0), steps: 100, task }
  const attachments = recipe.attachments?.(setting) ?? []
  const statistics = [...new Set(attachments.flatMap((a) => a.adapter.calibrates ?? []))]
  const seen = statistics.length ? await calibrate(network, [batch], { statistics }) : undefined
  const whole = recipe.train?.(setting)
  const start = (): ReturnType<typeof attach> =>
    attach(network, attachments, rng(0), { ...(whole?.length && { train: whole }), ...(seen && { seen }) })
  if (only) {
    const unit = async (): Promise<Record<string, number>> => {
      const tuned = start()
      const own = new Set(Object.values(network.weights).flatMap((w) => Object.values(w.parts)))
      for (const t of Object.values(network.vectors)) own.add(t)
      const made = [...Object.values(tuned.params), ...Object.values(tuned.constants)]
      for (const b of tuned.bound) made.push(...Object.values(b.base?.parts ?? {}))
      dispose(made.filter((t) => !own.has(t)))
      return {}
    }
    return { facts: { device }, unit }
  }
  const tuned = start()
  const live = revising(tuned, { steps: setting.steps })
  const input = tensor(batch.ids, [1, length], 'int32')
  function* data(): Generator<Batch> {
    for (;;) yield batch
  }
  const peak = peakBytes()
  const steps: AsyncGenerator<Step> = train({
    params: tuned.params,
    data: data(),
    loss: (p: Params, b, { rng }) =>
      recipe.loss?.(live.tuned, p, b, rng) ?? nextToken(live.run(p, { ids: input }, { training: true, rng }), b),
    transform: recipe.transform?.(cosine(1e-4, { steps: 1000, warmup: 0 }), tuned, setting) ?? adamw({ lr: 1e-4 }),
    ...(recipe.estimate && { estimate: recipe.estimate(tuned, setting) }),
    ...(live.active && { revise: live.revise }),
  })
  const unit = async (): Promise<Record<string, number>> => {
    const { value } = await steps.next()
    if (!value) throw new Error('the training has ended')
    return { tensors: value.tensors, peak: peak.bytes / 1e6 }
  }
  await unit()
  return { facts: { device, trained: Object.values(tuned.params).reduce((n, p) => n + p.size, 0) }, unit }
})
