import { hydra } from '@weftjs/lora'
import type { Claim, Recipe } from '../lab.ts'

const of = (parallel: number, sequential: number): Recipe => ({
  name: `hydra ${parallel} ${sequential}`,
  attachments: () => [{ adapter: hydra({ parallel, sequential }), at: 'blocks.*.{attn.o,mlp.down}' }],
})
/** 1408·r_p + 1024·r_s numbers a layer: LoRA's budget on all linears */
export const recipe: Recipe = of(16, 13)

export const claim: Claim = {
  says: 'Both branches do better than a parallel or a sequential one of as many numbers',
  metric: 'the least loss of one branch less ours',
  margin: async (seed, lab) => {
    const [parallel, sequential] = [await lab.run(of(25, 0), { seed }), await lab.run(of(0, 35), { seed })]
    return Math.min(parallel.loss, sequential.loss) - (await lab.run(recipe, { seed })).loss
  },
  note: 'a sequential branch alone comes as near as seeds differ',
}
