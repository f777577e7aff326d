import { polyhistor, series } from '@weftjs/lora'
import { attach, inputsOf, nextToken, type Tuned } from '@weftjs/model'
import { adamw, chain, clipByGlobalNorm, train } from '@weftjs/optim'
import type { Batch, Params, Scalar } from '@weftjs/spec'
import { countParams, dispose, rng, tensor, tidy } from '@weftjs/tensor'
import { batchOf, type Claim, type Recipe, STEPS, type Task } from '../lab.ts'

const at = 'blocks.*.mlp'
/** 2·32·7·(32 + 256) numbers of the common generator: near LoRA's budget */
export const recipe: Recipe = {
  name: 'polyhistor lite 32 7',
  attachments: () => [{ adapter: polyhistor({ embedding: 32, rank: 7 }), at }],
}
/** what the claim compares: an adapter of its own for each task, and one small generator for both */
const own: Recipe = {
  name: 'series mlp 32 gelu',
  attachments: () => [{ adapter: series({ width: 32, activation: 'gelu' }), at }],
}
const SMALL = { embedding: 8, rank: 2 } as const

/** the same text from its end */
const backwards = (batch: Batch): Batch => {
  const [B, T] = batch.shape
  const row = (r: number): number[] => [...batch.ids.slice(r * T, r * T + T), batch.targets[r * T + T - 1]!].reverse()
  return batchOf(Array.from({ length: B }, (_, r) => row(r)))
}
const reversed = (task: Task): Task => ({
  name: `${task.name} backwards`,
  batch: (seed, step) => backwards(task.batch(seed, step)),
  validation: task.validation.map(backwards),
  test: task.test.map(backwards),
})

const lossOf = (tuned: Tuned, params: Params, batch: Batch, task: number): Scalar =>
  nextToken(tuned.run(params, { ...inputsOf(batch), task: tensor([task], [1], 'int32') }), batch)

export const claim: Claim = {
  says: 'One generator of adapters for several tasks does nearly as well as an adapter for each, with a tenth of their numbers',
  metric: '0.05 less the mean loss over that of separate adapters, less 1',
  margin: async (seed, lab) => {
    const tasks = [lab.task, reversed(lab.task)]
    const alone: number[] = []
    let numbers = 0
    for (const task of tasks) {
      const found = await lab.run(own, { seed, task })
      alone.push(found.loss)
      numbers += found.trainable
    }
    const adapter = polyhistor({ ...SMALL, tasks: tasks.length })
    const tuned = attach(lab.network, [{ adapter, at }], rng(seed).fork('adapters'))
    if (countParams(tuned.params) > numbers / 10)
      throw new Error('polyhistor: the generator is not a tenth of the adapters')
    // each task has as many steps as it has alone
    const steps = STEPS * tasks.length
    const data = Array.from({ length: steps }, (_, i) => ({ task: i % 2, batch: tasks[i % 2]!.batch(seed, i >> 1) }))
    let params = tuned.params
    const transform = chain(clipByGlobalNorm(1), adamw({ lr: 1e-2, weightDecay: 0 }))
    const loss = (p: Params, d: (typeof data)[number]): Scalar => lossOf(tuned, p, d.batch, d.task)
    for await (const step of train({ params, transform, data, loss, seed })) params = step.params
    const together: number[] = []
    for (const [i, { test }] of tasks.entries()) {
      const losses = test.map((batch) => tidy(() => lossOf(tuned, params, batch, i)))
      together.push((await Promise.all(losses.map((l) => l.data()))).reduce((s, [v]) => s + v!, 0) / test.length)
      dispose(losses)
    }
    dispose(Object.values(params))
    const mean = (v: readonly number[]): number => v.reduce((a, b) => a + b) / v.length
    return 0.05 - (mean(together) / mean(alone) - 1)
  },
}
