import { lora, poly } from '@weftjs/lora'
import { type Claim, LINEARS, linears, type Recipe } from '../lab.ts'
import { onTwoTasks } from '../two-tasks.ts'

const size = { rank: 4, alpha: 4, skills: 2 } as const
/** one task, two skills of rank 4: LoRA's budget */
export const recipe: Recipe = linears(poly(size))

export const claim: Claim = {
  says: 'On tasks that contradict each other, skills that each task mixes its own way do better than one LoRA of as many numbers',
  metric: 'mean loss of LoRA less ours',
  margin: async (seed, lab) =>
    (await onTwoTasks(lora({ rank: 8, alpha: 8 }), LINEARS, seed, lab)) -
    (await onTwoTasks(poly({ ...size, tasks: 2 }), LINEARS, seed, lab)),
}
