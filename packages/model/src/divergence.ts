import type { Batch, Network, Tensor } from '@weftjs/spec'
import {
  addN,
  exp,
  gatherRows,
  keep,
  logSoftmax,
  mul,
  reshape,
  rng,
  slice,
  sub,
  sum,
  tensor1d,
  tidy,
} from '@weftjs/tensor'
import { type Pass, type Tuned, tunedOf } from './attach.ts'
import { bind } from './bind.ts'
import type { TransformerConfig } from './config.ts'
import { inputsOf, targetsIn } from './loss.ts'

/** Asks how far another network is from the one that this was made of. */
export interface Divergence {
  /** in nats for each place that has a target */
  (other: Network<TransformerConfig>): Promise<number>
  /** gives up what is kept of the first network */
  dispose(): void
}

/** rows of logits that are made at a time */
const TOGETHER = 256

const bare = (network: Network<TransformerConfig>): Tuned => tunedOf(bind(network, [], rng(0)))

interface Read {
  /** what the head reads at the places that have a target [n, D] */
  readonly rows: Tensor
  readonly head: Pass['head']
}
const readByHead = (tuned: Tuned, batch: Batch): Read => {
  const { hidden, head } = tuned.run({}, inputsOf(batch))
  const rows = reshape(hidden, [-1, hidden.shape.at(-1)!]) // [B·T, D]
  const places = Int32Array.from(batch.targets.keys()).filter((i) => batch.targets[i]! >= 0)
  return { rows: places.length === rows.shape[0] ? rows : gatherRows(rows, tensor1d(places, 'int32')), head }
}
/** logits of some rows as log-probabilities [m, V] */
const scores = ({ rows, head }: Read, from: number): Tensor => {
  const [n, D] = rows.shape as [number, number]
  const logits = head(slice(rows, [from, 0], [Math.min(TOGETHER, n - from), D]))
  return logSoftmax(logits)
}

/**
 * E[Σ pᵥ·(ln pᵥ − ln qᵥ)], p of this network and q of another on the same tokens: Kullback and Leibler, 1951
 *
 * Of the first network what its head reads is kept, and the network itself must stay; logits are made a few rows at a time.
 * @throws Error where no batch has a target
 */
export const divergenceFrom = (network: Network<TransformerConfig>, batches: readonly Batch[]): Divergence => {
  const data = batches.filter((b) => targetsIn(b) > 0)
  if (!data.length)
    throw new Error('divergenceFrom: no batch has a target; give some data, and labels other than -100 where it counts')
  const first = bare(network)
  const held = data.map((batch) => {
    let read: Read | undefined
    tidy(() => {
      read = readByHead(first, batch)
      return keep(read.rows)
    })
    return read!
  })
  const count = data.reduce((n, b) => n + targetsIn(b), 0)

  const apart = async (other: Network<TransformerConfig>): Promise<number> => {
    const second = bare(other)
    let total = 0
    for (const [i, batch] of data.entries()) {
      const before = held[i]!
      const lost = tidy(() => {
        const after = readByHead(second, batch)
        const sums = Array.from({ length: Math.ceil(before.rows.shape[0]! / TOGETHER) }, (_, k) =>
          tidy(() => {
            const [p, q] = [scores(before, k * TOGETHER), scores(after, k * TOGETHER)]
            return sum(mul(exp(p), sub(p, q)))
          }),
        )
        return addN(sums)
      })
      total += (await lost.data())[0]!
      lost.dispose()
    }
    return total / count
  }
  return Object.assign(apart, {
    dispose: () => {
      for (const { rows } of held) rows.dispose()
    },
  })
}
