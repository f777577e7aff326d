import { prefix } from '@weftjs/lora'
import type { Claim, Recipe } from '../lab.ts'

const of = (length: number): Recipe => ({
  name: `prefix ${length}`,
  attachments: () => [{ adapter: prefix({ length }), at: 'blocks.*.attn.core' }],
})
/** the paper's 30 tokens are a fifth of LoRA's budget; more of them would be longer than the text */
export const recipe: Recipe = of(30)

export const claim: Claim = {
  says: 'More tokens in the prefix help, up to a number of them',
  metric: 'loss with 2 tokens less that with 30',
  margin: async (seed, lab) => (await lab.run(of(2), { seed })).loss - (await lab.run(recipe, { seed })).loss,
}
