import type { Network, Rng, Scalar, Tensor, Tensor2D } from '@weftjs/spec'
import {
  add,
  div,
  keep,
  logSoftmax,
  mean,
  mul,
  neg,
  oneHot,
  reshape,
  softplus,
  square,
  sub,
  sum,
  tensor,
  tensor1d,
  tidy,
  zeros,
} from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import { type Architecture, architectureOf, architectures as builtIn, namesOf } from './architectures/index.ts'
import type { Pass } from './attach.ts'
import type { TransformerConfig } from './config.ts'

export interface LabelHeadOptions {
  /** one for each text, or one for each token */
  readonly per?: 'text' | 'token'
  /** how a text's logits come from those of its tokens */
  readonly pooling?: 'first' | 'last' | 'mean' | 'max'
  /** `false` takes the causal mask away: every token sees all others but padding */
  readonly causal?: boolean
  /** names of the labels, written into config.json */
  readonly names?: readonly string[]
  readonly architectures?: readonly Architecture[]
}

/**
 * pool(W_c·h) in place of the logits over the vocabulary, h of each token, with or without the causal mask  —  Li et al., arXiv:2310.01208
 *
 * It saves as transformers' own `...ForSequenceClassification` or `...ForTokenClassification`, of which the first always
 * takes the last token (`classifier_pooling` is read here alone) and both read `is_causal`. Train the head by
 * `attach(..., { train: 'head' })`, beside LoRA on q and v.
 * @family lora
 * @throws Error for a model without such a class
 */
export const labelHead = (
  network: Network<TransformerConfig>,
  labels: number,
  rng: Rng,
  {
    per = 'text',
    pooling = 'last',
    causal = network.config.causal,
    names,
    architectures = builtIn,
  }: LabelHeadOptions = {},
): Network<TransformerConfig> => {
  const { config: c, weights, vectors } = network
  if (!Number.isInteger(labels) || labels < 1)
    throw new Error(`labelHead: labels must be a whole number of at least 1, found ${labels}`)
  if (names && names.length !== labels)
    throw new Error(`labelHead: ${names.length} names for ${labels} labels; give one for each`)
  const words = Array.from({ length: labels }, (_, i) => names?.[i] ?? `LABEL_${i}`)
  const named =
    [c.source['architectures']].flat()[0] ?? `${c.architecture[0]!.toUpperCase()}${c.architecture.slice(1)}Model`
  const family = String(named).replace(/(For[A-Za-z]+|LMHeadModel|Model)$/, '')
  const { classifier_pooling: _, is_causal: __, ...rest } = c.source
  const source = {
    ...rest,
    architectures: [`${family}For${per === 'text' ? 'Sequence' : 'Token'}Classification`],
    id2label: Object.fromEntries(words.map((w, i) => [String(i), w])),
    label2id: Object.fromEntries(words.map((w, i) => [w, i])),
    num_labels: labels,
    ...(!causal && { is_causal: false }),
    ...(per === 'text' && pooling !== 'last' && { classifier_pooling: pooling }),
  }
  const made = architectureOf(source, architectures).config(source)
  if (made.causal !== causal || (per === 'text' && made.output === 'classes' && (made.pooling ?? 'first') !== pooling))
    throw new Error(
      `labelHead: ${c.architecture} has no such head; it pools the ${made.pooling ?? 'first'} token, ${made.causal ? 'with' : 'without'} a causal mask`,
    )
  const dtypes = new Map(c.names.map((n) => [n.name, n.dtype]))
  const config: TransformerConfig = {
    ...made,
    names: made.names.map((n) => {
      const dtype = dtypes.get(n.name)
      return dtype ? { ...n, dtype } : n
    }),
  }
  const ours = new Set([...namesOf(config)].map((n) => n.name))
  const lacks = [...namesOf(config)].find(
    (n) => !n.optional && !/^head(\.bias)?$/.test(n.name) && !weights[n.name] && !vectors[n.name],
  )
  if (lacks)
    throw new Error(`labelHead: ${named} lacks ${lacks.name}, which its classifier has; begin with another checkpoint`)
  const stays = ([name]: readonly [string, unknown]): boolean => !name.startsWith('head') && ours.has(name)
  const width = Number(source['initializer_range' as keyof typeof source] ?? 0.02)
  const head = tidy(() => keep(rng.fork('head').normal([labels, c.width], width))) as Tensor2D // [C, D]
  return {
    config,
    weights: { ...Object.fromEntries(Object.entries(weights).filter(stays)), head: dense(head) },
    vectors: {
      ...Object.fromEntries(Object.entries(vectors).filter(stays)),
      ...(ours.has('head.bias') && { 'head.bias': tidy(() => keep(zeros([labels]))) }),
    },
  }
}

/**
 * Mean loss of a classifier over its texts: cross-entropy of class numbers [B], or with rows of numbers [B][C] either
 * `regression` (squared error, transformers' choice for one label) or `several` labels at once (binary cross-entropy),
 * and what adapters add. Token labels go to `nextToken`, whose targets are labels, -100 where there is none.
 */
export const labelLoss = (
  pass: Pass,
  labels: Int32Array | readonly (readonly number[])[],
  kind: 'classes' | 'regression' | 'several' = 'classes',
): Scalar => {
  const z = pass.head(pass.hidden) // [B, C]
  const [B, C] = z.shape as [number, number]
  const withPenalty = (loss: Tensor): Scalar => (pass.penalty ? add(loss, pass.penalty) : loss) as Scalar
  if (kind === 'classes') {
    const ids = Int32Array.from(labels as Int32Array)
    const odd = ids.find((l) => !(l >= 0 && l < C))
    if (odd !== undefined) throw new Error(`label ${odd} is none of the ${C} classes; number them from 0`)
    if (ids.length !== B) throw new Error(`labels: ${ids.length} for ${B} texts; give one for each`)
    // a single class is sure: its loss is 0
    const hits = C > 1 ? mul(logSoftmax(z), oneHot(tensor1d(ids, 'int32'), C)) : mul(z, 0)
    return withPenalty(neg(div(sum(hits), B)))
  }
  const rows = labels as readonly (readonly number[])[]
  if (rows.length !== z.shape[0] || rows.some((r) => r.length !== z.shape[1]))
    throw new Error(`labels: [${rows.length}, ${rows[0]?.length}] for logits [${z.shape}]; give a number for each`)
  const y = reshape(tensor(Float32Array.from(rows.flat())), z.shape)
  const each: Tensor = kind === 'regression' ? square(sub(z, y)) : sub(softplus(z), mul(z, y))
  return withPenalty(mean(each))
}

/** Labels of words on their first tokens, -100 on all others: `words` says which word each token is of, undefined for none */
export const labelFirstTokens = (words: readonly (number | undefined)[], labels: readonly number[]): Int32Array =>
  Int32Array.from(words, (word, t) => {
    if (word === undefined || word === words[t - 1]) return -100
    const label = labels[word]
    if (label === undefined) throw new Error(`token ${t} is of word ${word}, and there are labels for ${labels.length}`)
    return label
  })
