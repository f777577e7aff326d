import { llavaMole } from '@weftjs/lora/llava-mole'
import { lora } from '@weftjs/lora/lora'
import type { Batch } from '@weftjs/spec'
import { batchOf, type Claim, type Recipe, type Task } from '../lab.ts'

const at = ['blocks.*.mlp', 'blocks.*.mlp.*']
export const recipe: Recipe = {
  name: 'llava-mole 3 4',
  attachments: () => [{ adapter: llavaMole({ experts: 3, rank: 4, alpha: 8 }), at }],
}
const plain: Recipe = {
  name: 'lora mlp 4 8',
  attachments: () => [{ adapter: lora({ rank: 4, alpha: 8 }), at: 'blocks.*.mlp.*' }],
}

/** the same text from its end */
const backwards = (batch: Batch): Batch => {
  const [B, T] = batch.shape
  const row = (r: number): number[] => [...batch.ids.slice(r * T, r * T + T), batch.targets[r * T + T - 1]!].reverse()
  return batchOf(Array.from({ length: B }, (_, r) => row(r)))
}
/** half of the batches one way, half the other */
const bothWays = (task: Task): Task => {
  const each = (batches: readonly Batch[]): Batch[] => batches.map((b, i) => (i % 2 ? backwards(b) : b))
  return {
    name: `${task.name} both ways`,
    batch: (seed, step) => (step % 2 ? backwards : (b: Batch) => b)(task.batch(seed, step)),
    validation: each(task.validation),
    test: each(task.test),
  }
}

export const claim: Claim = {
  says: 'On a mix of tasks that contradict each other, routed experts do better than one LoRA of their rank',
  metric: 'loss of LoRA less ours, on text from its beginning and from its end',
  margin: async (seed, lab) => {
    const task = bothWays(lab.task)
    return (await lab.run(plain, { seed, task })).loss - (await lab.run(recipe, { seed, task })).loss
  },
}
