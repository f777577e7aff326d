import type { Network, Tensor, Tensor2D } from '@weftjs/spec'
import { broadcastTo, concat, keep, mean, pad, slice, tidy } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import type { TransformerConfig } from './config.ts'

export interface Tables {
  /** [V', D] each; a table that is not given keeps its rows and gets new ones, each the mean of the old */
  readonly embed?: Tensor2D
  readonly head?: Tensor2D
}

/** the first `rows` of w [V, D], and where there are fewer the mean of all for the rest: [rows, D] */
const resized = (w: Tensor2D, rows: number): Tensor2D => {
  const [V, D] = w.shape
  if (rows <= V) return slice(w, [0, 0], [rows, D])
  return concat([w, broadcastTo(mean(w, 0, true), [rows - V, D])], 0) as Tensor2D
}

/**
 * A network whose vocabulary has another number of rows, in its embedding, its head and what belongs to them. A network
 * that ties the two stays tied, and a table of its head is not looked at.
 * @throws Error for a table of another shape, or a model that reads no tokens
 */
export const resizeVocabulary = (
  network: Network<TransformerConfig>,
  rows: number,
  { embed, head }: Tables = {},
): Network<TransformerConfig> => {
  const { config: c, weights, vectors } = network
  if (c.input !== 'tokens') throw new Error(`resizeVocabulary: ${c.architecture} reads no tokens`)
  if (!Number.isInteger(rows) || rows < 1)
    throw new Error(`resizeVocabulary: rows must be a whole number of at least 1, found ${rows}`)
  for (const [name, t] of Object.entries({ embed, head }))
    if (t && t.shape.join() !== [rows, c.width].join())
      throw new Error(`${name}: has shape [${t.shape}], and ${rows} rows need [${rows},${c.width}]`)
  const speaks = c.output === 'causal' || c.output === 'masked'
  const made = tidy(() => {
    const table = (name: 'embed' | 'head', given: Tensor2D | undefined): Record<string, Tensor2D> =>
      weights[name] && (name === 'embed' || speaks)
        ? { [name]: keep(given ?? resized(weights[name].dense(), rows)) }
        : {}
    return { ...table('embed', embed), ...table('head', head) }
  })
  const bias = vectors['head.bias']
  const longer = (b: Tensor): Tensor =>
    tidy(() => keep(rows <= b.size ? slice(b, [0], [rows]) : pad(b, [[0, rows - b.size]])))
  return {
    config: { ...c, vocabulary: rows, resized: true, source: { ...c.source, vocab_size: rows } },
    weights: { ...weights, ...Object.fromEntries(Object.entries(made).map(([n, t]) => [n, dense(t)])) },
    vectors: { ...vectors, ...(bias && speaks && { 'head.bias': longer(bias) }) },
  }
}
