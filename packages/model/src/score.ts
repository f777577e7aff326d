import type { Params } from '@weftjs/spec'
import { dispose, exp, gather, log, max, reshape, sub, sum, type Tensor, tensor, tensor1d, tidy } from '@weftjs/tensor'
import type { Tuned } from './attach.ts'
import { kvCache } from './cache.ts'
import { checkCausal, checkIds, lengthOf } from './prompt.ts'

export interface ScoreOptions {
  /** tokens per pass, and rows of logits that exist at a time; earlier tokens are there as keys and values only */
  readonly chunk?: number
  /** give the logits too */
  readonly logits?: boolean
  readonly signal?: AbortSignal | undefined
}

export interface Score {
  /** mean −ln p of all tokens but the first, in nats; null for a single token */
  readonly loss: number | null
  /** ln p of each token after those before it; null for the first, which nothing precedes */
  readonly tokens: readonly { readonly id: number; readonly logprob: number | null }[]
  /** row t predicts token t + 1 */
  readonly logits?: { readonly data: Float32Array; readonly shape: readonly [tokens: number, vocabulary: number] }
}

/**
 * Log-probability of every token of a text. It goes through in chunks over a cache, so that the device holds the keys
 * and values of the whole but activations and logits of one chunk only.
 * @throws Error for a model that is no decoder, ids outside its vocabulary, a text longer than it takes
 */
export const score = async (
  tuned: Tuned,
  params: Params,
  ids: readonly number[],
  { chunk = 128, logits: wanted = false, signal }: ScoreOptions = {},
): Promise<Score> => {
  const { config } = tuned.network
  checkCausal(config, 'score')
  checkIds(ids, config, 'the text')
  if (!(Number.isInteger(chunk) && chunk >= 1)) throw new Error(`chunk must be an integer ≥ 1, found ${chunk}`)
  if (!ids.length) throw new Error('the text has no tokens; give at least one')
  if (ids.length > lengthOf(config))
    throw new Error(
      `the text has ${ids.length} tokens and the model takes ${lengthOf(config)}; score it in pieces of that length`,
    )
  const V = config.vocabulary
  const data = wanted ? new Float32Array(ids.length * V) : undefined
  const logprobs: number[] = []
  const cache = kvCache(config)
  try {
    for (let from = 0; from < ids.length; from += chunk) {
      signal?.throwIfAborted()
      const part = ids.slice(from, from + chunk)
      const next = part.map((_, t) => ids[from + t + 1] ?? 0)
      const outs = tidy(() => {
        const { hidden, head } = tuned.run(params, { ids: tensor([...part], [1, part.length], 'int32') }, { cache })
        const z = reshape(head(hidden), [part.length, V]) // [T, V]
        return wanted ? [logprobOf(z, next), z] : [logprobOf(z, next)]
      })
      try {
        logprobs.push(...(await outs[0]!.data()))
        if (data) data.set((await outs[1]!.data()) as Float32Array, from * V)
      } finally {
        dispose(outs)
      }
    }
  } finally {
    cache.dispose()
  }
  const known = logprobs.slice(0, -1)
  return {
    loss: known.length ? -known.reduce((a, b) => a + b, 0) / known.length : null,
    tokens: ids.map((id, t) => ({ id, logprob: t ? known[t - 1]! : null })),
    ...(data && { logits: { data, shape: [ids.length, V] } }),
  }
}

/** ln softmax(z)[next]: z [T, V] → [T] */
const logprobOf = (z: Tensor, next: readonly number[]): Tensor => {
  const V = z.shape[1]!
  const shifted = sub(z, max(z, 1, true)) // [T, V]
  const index = tensor1d(
    next.map((id, t) => t * V + id),
    'int32',
  )
  return sub(gather(reshape(shifted, [-1]), index), log(sum(exp(shifted), 1)))
}
