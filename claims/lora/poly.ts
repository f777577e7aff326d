import { poly } from '@weftjs/lora'
import { linears, type Recipe } from '../lab.ts'

/** one task, two skills of rank 4: LoRA's budget. The paper's claim is of many tasks, and the comparison has one */
export const recipe: Recipe = linears(poly({ rank: 4, alpha: 4, skills: 2 }))
