/** What methods do before the run that the table shows: a short full tuning on other batches of the task. */
import { readFileSync } from 'node:fs'
import { loadMini } from '@weftjs/mini'
import { attach, inputsOf, nextToken, type TransformerConfig } from '@weftjs/model'
import { adamw, chain, clipByGlobalNorm, train } from '@weftjs/optim'
import type { Batch, Network, Params, Scalar } from '@weftjs/spec'
import { rng } from '@weftjs/tensor'
import { type Lab, type Recipe, type Task, textTask } from './lab.ts'

/** batches of the first phase are those of this seed */
const SEED = 2000

export const voiceTask = async (): Promise<Task> => {
  const { tokenizer } = await loadMini()
  return textTask(
    'voice',
    tokenizer.encode(readFileSync(new URL('../examples/data/voice.txt', import.meta.url), 'utf8')),
  )
}

/** values of the named tensors before and after some steps */
export const tuned = async (
  network: Network<TransformerConfig>,
  names: readonly string[],
  { steps = 20, rate = 1e-3 } = {},
): Promise<{ before: Params; after: Params }> => {
  const task = await voiceTask()
  const whole = attach(network, [], rng(SEED), { train: [...names] })
  let after: Params = whole.params
  const loop = train<Batch>({
    params: whole.params,
    data: Array.from({ length: steps }, (_, i) => task.batch(SEED, i)),
    loss: (p, b) => nextToken(whole.run(p, inputsOf(b), { training: true }), b) as Scalar,
    transform: chain(clipByGlobalNorm(1), adamw({ lr: rate, weightDecay: 0 })),
  })
  for await (const s of loop) after = s.params
  return { before: whole.params, after }
}

/** f of the network, once */
export const once = <T>(
  f: (network: Network<TransformerConfig>) => Promise<T>,
): ((network: Network<TransformerConfig>) => Promise<T>) => {
  let found: Promise<T> | undefined
  return (network) => {
    found ??= f(network)
    return found
  }
}

/** what a nat of the task costs: forgetting by the loss that was taken off, so that methods which learn more are not blamed for it */
export const price = async (lab: Lab, recipe: Recipe, seed: number): Promise<number> => {
  const [start, end] = [await lab.run(recipe, { seed, rate: 1e-12 }), await lab.run(recipe, { seed })]
  return end.forgetting / (start.loss - end.loss)
}
