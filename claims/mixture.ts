import { existsSync } from 'node:fs'
import { attach, inputsOf, nextToken, type TransformerConfig, upcycle } from '@weftjs/model'
import { load, save } from '@weftjs/model/node'
import { adamw, chain, clipByGlobalNorm, cosine, train } from '@weftjs/optim'
import type { Batch, Network, Params } from '@weftjs/spec'
import { dispose, rng } from '@weftjs/tensor'
import { tensorsOf } from '@weftjs/weight'
import { root } from '../tools/source.ts'
import { batchOf, type Lab, ownRows, ROWS } from './lab.ts'

/** experts, those of a token, and steps of pretraining, each on a batch of its own */
const [EXPERTS, ACTIVE, TRAINED] = [4, 2, 64] as const
const PATH = `${root}.cache/mini-moe-${EXPERTS}-${ACTIVE}-${TRAINED}`

const made = async ({ network, tokenizer }: Lab): Promise<Network<TransformerConfig>> => {
  const sparse = upcycle(network, EXPERTS, rng(0).fork('upcycle'), { active: ACTIVE })
  const rows = await ownRows(
    network,
    tokenizer,
    Array.from({ length: 2 * TRAINED }, (_, i) => 100 + i),
    TRAINED * ROWS,
  )
  const texts = Array.from({ length: TRAINED }, (_, i) => batchOf(rows.slice(i * ROWS, (i + 1) * ROWS)))
  const tuned = attach(sparse, [], rng(0), { train: '**' })
  const lr = cosine(1e-3, { steps: TRAINED, warmup: 5 })
  const training = train<Batch>({
    params: tuned.params,
    transform: chain(clipByGlobalNorm(1), adamw({ lr, weightDecay: 0 })),
    data: texts,
    loss: (p, b, { rng }) => nextToken(tuned.run(p, inputsOf(b), { training: true, rng, balance: 0.01 }), b),
    seed: 0,
  })
  let params: Params = tuned.params
  for await (const s of training) params = s.params
  await save(tuned.fold(params), PATH)
  const kept = new Set(tensorsOf(network))
  dispose([...tensorsOf(sparse), ...Object.values(params)].filter((t) => !kept.has(t) && !t.isDisposed))
  return (await load(PATH)).network
}

let known: Promise<Network<TransformerConfig>> | undefined
/**
 * Mini as a mixture of four experts, two of them for a token, trained on a little with what mini wrote itself, so that its
 * experts are no longer copies. Made once, in about a minute on an idle machine, and kept in .cache.
 */
export const miniMixture = (lab: Lab): Promise<Network<TransformerConfig>> => {
  known ??= existsSync(`${PATH}/config.json`) ? load(PATH).then(({ network }) => network) : made(lab)
  return known
}
