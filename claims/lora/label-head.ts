import { lora } from '@weftjs/lora/lora'
import { attach, inputsOf, labelHead, nextToken, type Tuned } from '@weftjs/model'
import { adamw, chain, clipByGlobalNorm, train } from '@weftjs/optim'
import type { Batch, Params, Scalar } from '@weftjs/spec'
import { dispose, rng, tidy } from '@weftjs/tensor'
import { type Claim, type Lab, STEPS } from '../lab.ts'

/** labels are another task than the comparison's */
export const recipe = null

/** of each token: is the one after it among the commoner half of ids? */
const labelled = (batch: Batch): Batch => ({
  ...batch,
  targets: batch.ids.map((_, i) => ((i + 1) % batch.shape[1] ? Number(batch.ids[i + 1]! < 400) : -100)),
})
const lossOf = (tuned: Tuned, p: Params, b: Batch): Scalar => nextToken(tuned.run(p, inputsOf(b)), b)

const trained = async (causal: boolean, seed: number, lab: Lab): Promise<number> => {
  const network = labelHead(lab.network, 2, rng(seed), { per: 'token', causal })
  const tuned = attach(network, [{ adapter: lora({ rank: 8, alpha: 16 }), at: 'blocks.*.attn.{q,v}' }], rng(seed), {
    train: 'head*',
  })
  let params = tuned.params
  const data = Array.from({ length: STEPS }, (_, i) => labelled(lab.task.batch(seed, i)))
  const transform = chain(clipByGlobalNorm(1), adamw({ lr: 3e-3, weightDecay: 0 }))
  for await (const step of train({ params, transform, data, loss: (p: Params, b: Batch) => lossOf(tuned, p, b), seed }))
    params = step.params
  let sum = 0
  for (const batch of lab.task.test) {
    const loss = tidy(() => lossOf(tuned, params, labelled(batch)))
    sum += (await loss.data())[0]! / lab.task.test.length
    loss.dispose()
  }
  dispose(Object.values(params))
  return sum
}

export const claim: Claim = {
  says: 'Without the causal mask labels of tokens are learned better, where they depend on what comes after',
  metric: 'loss with the mask less that without',
  margin: async (seed, lab) => (await trained(true, seed, lab)) - (await trained(false, seed, lab)),
}
