import { lora, qaLora } from '@weftjs/lora'
import { attach, inputsOf, nextToken, type TransformerConfig } from '@weftjs/model'
import { adamw, chain, clipByGlobalNorm, cosine, train } from '@weftjs/optim'
import { int3, quantize } from '@weftjs/quant'
import type { Adapter, Network, Params } from '@weftjs/spec'
import { dispose, rng } from '@weftjs/tensor'
import { tensorsOf } from '@weftjs/weight'
import { type Claim, type Lab, LINEARS, type Recipe, STEPS } from '../lab.ts'

/** mini in 3 bits, whose zero points take an update of groups up */
const packed = (network: Network<TransformerConfig>): Promise<Network<TransformerConfig>> =>
  quantize(network, int3({ group: 32, floatZero: true }))
const on3Bits = (adapter: Adapter<any>): Recipe => ({
  name: `${adapter.name} ${JSON.stringify(adapter.options ?? {})} on int3 of groups of 32`,
  network: packed,
  attachments: () => [{ adapter, at: LINEARS }],
})
/** 142,320 numbers, as near LoRA's budget as a whole rank comes */
const ours = qaLora({ rank: 15, group: 32 })
export const recipe: Recipe = on3Bits(ours)

/** loss on the task once the trained adapter is folded into the 3 bits of its base */
const folded = async (adapter: Adapter<any>, seed: number, lab: Lab): Promise<number> => {
  const rate = await lab.rate(on3Bits(adapter))
  const base = await packed(lab.network)
  const tuned = attach(base, [{ adapter, at: LINEARS }], rng(seed).fork('adapters'))
  const lr = cosine(rate, { steps: STEPS, warmup: 5 })
  const data = Array.from({ length: STEPS }, (_, i) => lab.task.batch(seed, i))
  let params: Params = tuned.params
  for await (const step of train({
    ...{ params, data, seed, transform: chain(clipByGlobalNorm(1), adamw({ lr, weightDecay: 0 })) },
    loss: (p, batch) => nextToken(tuned.run(p, inputsOf(batch), { training: true }), batch),
  }))
    params = step.params
  const small = tuned.fold(params)
  const loss = await lab.loss(attach(small, [], rng(0)), {}, lab.task.test)
  const own = new Set(tensorsOf(lab.network))
  const made = [small, base].flatMap(tensorsOf).filter((t) => !own.has(t))
  const held = [params, tuned.params, tuned.constants].flatMap((p) => Object.values(p))
  dispose([...new Set([...made, ...held])])
  return loss
}

export const claim: Claim = {
  says: 'Folded into the few bits of its base it keeps what it learned, where LoRA loses some to the rounding',
  metric: 'loss of LoRA folded into 3 bits less that of ours, folded as well',
  margin: async (seed, lab) => (await folded(lora({ rank: 8 }), seed, lab)) - (await folded(ours, seed, lab)),
}
