import { expertLora, lora } from '@weftjs/lora'
import type { Attachment } from '@weftjs/model'
import type { Claim, Recipe } from '../lab.ts'
import { miniMixture } from '../mixture.ts'

/** the LoRA of a mixture of experts, and mini has none: without them it is LoRA itself */
export const recipe = null

export const claim: Claim = {
  says: 'In a mixture of experts, LoRA on the experts, which hold most weights, does better than as many numbers of LoRA on attention alone',
  metric:
    'loss of LoRA on attention (rank 38) less ours (rank 7), 272,384 numbers each, on mini upcycled to 2 of 4 experts',
  note: 'LoRA on the MLPs of mini as it is leads LoRA on its attention by as much: what counts is that the experts are the MLPs',
  margin: async (seed, lab) => {
    const mixture = await miniMixture(lab)
    const of = (name: string, attachment: Attachment): Recipe => ({
      name: `${name} on a mixture`,
      network: () => mixture,
      attachments: () => [attachment],
    })
    const ours = of('expert-lora 7', { adapter: expertLora({ rank: 7 }), at: 'blocks.*.mlp.experts.*.*' })
    const attention = of('lora 38 on attention', { adapter: lora({ rank: 38 }), at: 'blocks.*.attn.{q,k,v,o}' })
    return (await lab.run(attention, { seed })).loss - (await lab.run(ours, { seed })).loss
  },
}
