import { mosa } from '@weftjs/lora'
import { agreement, inputsOf } from '@weftjs/model'
import type { Claim, Recipe, Task } from '../lab.ts'

/** 2052·w + 3072 numbers: near LoRA's budget at w = 68 */
const of = (experts: number): Recipe => ({
  name: `mosa ${experts}`,
  attachments: () => [{ adapter: mosa({ width: 68, experts }), at: 'blocks.*.mlp' }],
  // with one part both passes are the same
  ...(experts > 1 && {
    loss: (tuned, params, batch, rng) => {
      const pass = (noise: number) => tuned.run(params, inputsOf(batch), { training: true, rng: rng.fork(noise) })
      return agreement(pass(1), pass(2), batch)
    },
  }),
})
export const recipe: Recipe = of(4)

/** trained on what four batches hold, again and again */
const little = (task: Task): Task => ({
  ...task,
  name: 'little voice',
  batch: (seed, step) => task.batch(seed, step % 4),
})

export const claim: Claim = {
  says: 'On little data, an adapter in sparse parts that are trained at random does better on new text than the plain one',
  metric: 'loss of the plain adapter less ours',
  margin: async (seed, lab) => {
    const task = little(lab.task)
    return (await lab.run(of(1), { seed, task })).loss - (await lab.run(recipe, { seed, task })).loss
  },
}
