import { mosa } from '@weftjs/lora'
import { agreement, inputsOf } from '@weftjs/model'
import type { Claim, Recipe, Task } from '../lab.ts'

/** a loss, of which MoSA's recipe is an example */
export const recipe = null

/** MoSA, with a weight on the agreement of two draws: 0 is the loss of one pass */
const of = (weight: number): Recipe => ({
  name: `mosa 4, agreement ${weight}`,
  attachments: () => [{ adapter: mosa({ width: 68, experts: 4 }), at: 'blocks.*.mlp' }],
  ...(weight && {
    loss: (tuned, params, batch, rng) => {
      const pass = (noise: number) => tuned.run(params, inputsOf(batch), { training: true, rng: rng.fork(noise) })
      return agreement(pass(1), pass(2), batch, { weight })
    },
  }),
})

/** trained on what four batches hold, again and again */
const little = (task: Task): Task => ({
  ...task,
  name: 'little voice',
  batch: (seed, step) => task.batch(seed, step % 4),
})

export const claim: Claim = {
  says: 'On little data, parts that must agree with each other do better on new text than parts that need not',
  metric: 'loss without agreement less ours',
  note: 'forty steps are few for a term that holds training back; the seeds disagree about its sign',
  margin: async (seed, lab) => {
    const task = little(lab.task)
    return (await lab.run(of(0), { seed, task })).loss - (await lab.run(of(1), { seed, task })).loss
  },
}
