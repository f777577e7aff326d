import { alora, lora } from '@weftjs/lora'
import type { Batch } from '@weftjs/spec'
import { batchOf, type Claim, linears, type Task } from '../lab.ts'

/** it acts on what follows a call, and the comparison's texts have none */
export const recipe = null

/** tokens of a text before the call, and the call, which no text has */
const [BEFORE, CALL] = [24, [0, 0]] as const

/** the voice after 24 tokens of it and a call, and the loss on what follows the call alone */
const called = (task: Task): Task => {
  const put = ({ shape: [B, T], ids, targets }: Batch): Batch => {
    const rows = Array.from({ length: B }, (_, b) => {
      const row = [...ids.subarray(b * T, (b + 1) * T), targets[(b + 1) * T - 1]!]
      return [...row.slice(0, BEFORE), ...CALL, ...row.slice(BEFORE, T + 1 - CALL.length)]
    })
    const made = batchOf(rows)
    return { ...made, targets: made.targets.map((t, i) => (i % T < BEFORE + CALL.length - 1 ? -100 : t)) }
  }
  return {
    name: `${task.name} after a call`,
    batch: (seed, step) => put(task.batch(seed, step)),
    validation: task.validation.map(put),
    test: task.test.map(put),
  }
}
const ours = linears(alora({ rank: 8, tokens: CALL }))
const plain = linears(lora({ rank: 8 }))

export const claim: Claim = {
  says: 'An update that acts from its call on, and leaves what is cached before it as it was, does nearly as well as one that acts everywhere',
  metric: "LoRA's loss after the call and 3 % of it, less ours",
  margin: async (seed, lab) => {
    const task = called(lab.task)
    return 1.03 * (await lab.run(plain, { seed, task })).loss - (await lab.run(ours, { seed, task })).loss
  },
}
