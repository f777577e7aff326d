import { mtlora } from '@weftjs/lora/mtlora'
import { type Claim, LINEARS, type Recipe } from '../lab.ts'
import { onTwoTasks } from '../two-tasks.ts'

/** without tasks it is LoRA of a factor of 4: its budget at rank 8 */
export const recipe: Recipe = {
  name: 'mtlora 8',
  attachments: () => [{ adapter: mtlora({ rank: 8, scale: 1 }), at: LINEARS }],
}

export const claim: Claim = {
  says: 'On tasks that contradict each other, shared updates and those of each task do better than shared ones alone',
  metric: 'mean loss of the shared ones less ours',
  margin: async (seed, lab) => {
    const alone = await onTwoTasks(mtlora({ rank: 8, scale: 1 }), LINEARS, seed, lab)
    const both = mtlora({ rank: 8, scale: 1, tasks: 2, taskRank: 4, taskScale: 1, addShared: true })
    return alone - (await onTwoTasks(both, ['blocks.3', LINEARS], seed, lab))
  },
}
