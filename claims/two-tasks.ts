import { type At, attach, inputsOf, nextToken, type Tuned } from '@weftjs/model'
import { adamw, chain, clipByGlobalNorm, train } from '@weftjs/optim'
import type { Adapter, Batch, Params, Scalar } from '@weftjs/spec'
import { dispose, fill, rng, tidy } from '@weftjs/tensor'
import { batchOf, type Lab, STEPS } from './lab.ts'

/** the same text from its end */
const backwards = (batch: Batch): Batch => {
  const [B, T] = batch.shape
  const row = (r: number): number[] => [...batch.ids.slice(r * T, r * T + T), batch.targets[r * T + T - 1]!].reverse()
  return batchOf(Array.from({ length: B }, (_, r) => row(r)))
}
const lossOf = (tuned: Tuned, params: Params, batch: Batch, task: number): Scalar => {
  const B = batch.shape[0]
  return nextToken(tuned.run(params, { ...inputsOf(batch), task: fill([B], task, 'int32') }), batch)
}

const of = (batch: Batch, task: number): Batch => (task ? backwards(batch) : batch)

/** what has trained on these of the two tasks in turns, as many steps of each as others have alone */
export const trainedOn = async (tuned: Tuned, tasks: readonly number[], seed: number, lab: Lab): Promise<Params> => {
  const data = Array.from({ length: tasks.length * STEPS }, (_, i) => {
    const task = tasks[i % tasks.length]!
    return { task, batch: of(lab.task.batch(seed, Math.floor(i / tasks.length)), task) }
  })
  const transform = chain(clipByGlobalNorm(1), adamw({ lr: 3e-3, weightDecay: 0 }))
  const loss = (p: Params, d: (typeof data)[number]): Scalar => lossOf(tuned, p, d.batch, d.task)
  let params = tuned.params
  for await (const step of train({ params, transform, data, loss, seed })) params = step.params
  return params
}

/** mean loss over both tasks on held-out text */
export const lossOnBoth = async (tuned: Tuned, params: Params, lab: Lab): Promise<number> => {
  let sum = 0
  for (const batch of lab.task.test)
    for (const task of [0, 1]) {
      const value = tidy(() => lossOf(tuned, params, of(batch, task), task))
      sum += (await value.data())[0]! / (2 * lab.task.test.length)
      value.dispose()
    }
  return sum
}

/** Mean loss over two tasks that contradict each other, text and the same text backwards, after as many steps of each as others have alone */
export const onTwoTasks = async (adapter: Adapter<any>, at: At, seed: number, lab: Lab): Promise<number> => {
  const tuned = attach(lab.network, [{ adapter, at }], rng(seed).fork('adapters'))
  const params = await trainedOn(tuned, [0, 1], seed, lab)
  const loss = await lossOnBoth(tuned, params, lab)
  dispose([...Object.values(params), ...Object.values(tuned.constants)])
  return loss
}
