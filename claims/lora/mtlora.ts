import { mtlora } from '@weftjs/lora/mtlora'
import { type At, attach, inputsOf, nextToken, type Tuned } from '@weftjs/model'
import { adamw, chain, clipByGlobalNorm, train } from '@weftjs/optim'
import type { Adapter, Batch, Params, Scalar } from '@weftjs/spec'
import { dispose, rng, tensor, tidy } from '@weftjs/tensor'
import { batchOf, type Claim, type Lab, LINEARS, type Recipe, STEPS } from '../lab.ts'

/** without tasks it is LoRA of a factor of 4: its budget at rank 8 */
export const recipe: Recipe = {
  name: 'mtlora 8',
  attachments: () => [{ adapter: mtlora({ rank: 8, scale: 1 }), at: LINEARS }],
}

/** the same text from its end */
const backwards = (batch: Batch): Batch => {
  const [B, T] = batch.shape
  const row = (r: number): number[] => [...batch.ids.slice(r * T, r * T + T), batch.targets[r * T + T - 1]!].reverse()
  return batchOf(Array.from({ length: B }, (_, r) => row(r)))
}
const lossOf = (tuned: Tuned, params: Params, batch: Batch, task: number): Scalar =>
  nextToken(tuned.run(params, { ...inputsOf(batch), task: tensor([task], [1], 'int32') }), batch)

/** mean loss over both directions after as many steps of each as others have alone */
const trained = async (adapter: Adapter<any>, at: At, seed: number, lab: Lab): Promise<number> => {
  const tuned = attach(lab.network, [{ adapter, at }], rng(seed).fork('adapters'))
  const of = (batch: Batch, task: number): Batch => (task ? backwards(batch) : batch)
  const data = Array.from({ length: 2 * STEPS }, (_, i) => ({
    task: i % 2,
    batch: of(lab.task.batch(seed, i >> 1), i % 2),
  }))
  const transform = chain(clipByGlobalNorm(1), adamw({ lr: 3e-3, weightDecay: 0 }))
  const loss = (p: Params, d: (typeof data)[number]): Scalar => lossOf(tuned, p, d.batch, d.task)
  let params = tuned.params
  for await (const step of train({ params, transform, data, loss, seed })) params = step.params
  let sum = 0
  for (const batch of lab.task.test)
    for (const task of [0, 1]) {
      const value = tidy(() => lossOf(tuned, params, of(batch, task), task))
      sum += (await value.data())[0]! / (2 * lab.task.test.length)
      value.dispose()
    }
  dispose([...Object.values(params), ...Object.values(tuned.constants)])
  return sum
}

export const claim: Claim = {
  says: 'On tasks that contradict each other, shared updates and those of each task do better than shared ones alone',
  metric: 'mean loss of the shared ones less ours',
  margin: async (seed, lab) => {
    const alone = await trained(mtlora({ rank: 8, scale: 1 }), LINEARS, seed, lab)
    const both = mtlora({ rank: 8, scale: 1, tasks: 2, taskRank: 4, taskScale: 1, addShared: true })
    return alone - (await trained(both, ['blocks.3', LINEARS], seed, lab))
  },
}
