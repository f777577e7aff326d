import type { Adapter, RunContext, Site, Tensor2D } from '@weftjs/spec'
import {
  add,
  div,
  gather,
  linear,
  mul,
  notEqual,
  relu,
  reshape,
  softmax,
  type Tensor,
  tensor1d,
  untaped,
  where,
  zeros,
} from '@weftjs/tensor'
import { best } from './shared/best.ts'
import { kaiming, mustBeWhole } from './shared/start.ts'

export interface XLoraOptions {
  /** how many LoRAs are mixed, of rank r and with α each, or one number for each of them */
  readonly experts?: number
  readonly rank?: number
  readonly alpha?: number | readonly number[]
  /** a gate for each site, or one for all */
  readonly layerwise?: boolean
  /** linear layers of the gate, and the width between them */
  readonly depth?: number
  readonly width?: number
  readonly dropout?: number
  readonly temperature?: number
  /** gates sum to one */
  readonly softmax?: boolean
  /** only the k largest gates of a token act; and these sum to one */
  readonly top?: number
  readonly softmaxTop?: boolean
  /** gates of the first pass, by which the second is gated: 0 is the model alone */
  readonly first?: number
  /** factor of all LoRAs */
  readonly scale?: number
  /** the LoRAs train, too */
  readonly trainExperts?: boolean
}
export interface XLoraState extends Record<string, Tensor> {
  /** of a linear: A [n·r, in] and B [out, n·r] of all LoRAs, fixed; which of the gates is its own [1] int32 */
  a: Tensor2D
  b: Tensor2D
  place: Tensor
}

/** sites with LoRAs, in order */
const adapted = (sites: readonly Site[]): readonly Site[] => sites.filter((s) => s.kind === 'linear')

/** widths between the layers of the gate, from D to n gates for each of L sites */
const widths = (
  { experts = 2, depth = 1, width = 2048, layerwise = false }: XLoraOptions,
  D: number,
  L: number,
): number[] => [D, ...Array<number>(depth - 1).fill(width), experts * (layerwise ? L : 1)]

/** numbers that train at a site: on "model" those of the gate, one for all sites; of a linear none, or the LoRAs' */
export const trainable = (site: Site, options: XLoraOptions = {}): number => {
  const { experts = 2, rank = 8, trainExperts = false } = options
  if (site.kind === 'linear') return trainExperts ? experts * rank * (site.in + site.out) : 0
  if (site.kind !== 'model') return 0
  const w = widths(options, site.in, 1)
  return w.slice(1).reduce((n, out, i) => n + out * (w[i]! + 1), 0)
}

const GATES = 'x-lora.gates'
const HIDDEN = 'x-lora.hidden'

/** W·x + Σᵢ gᵢ(x)·sᵢ·Bᵢ·Aᵢ·x, gates by token from what the model alone makes of the text  —  Buehler & Buehler, arXiv:2402.07148 */
export const xLora = (options: XLoraOptions = {}): Adapter<XLoraState> => {
  const { experts = 2, rank = 8, alpha = rank, layerwise = false, depth = 1, temperature = 1, first = 0 } = options
  const { top, softmaxTop = false, dropout = 0.2, scale = 1, trainExperts = false, width = 2048 } = options
  for (const [what, n] of Object.entries({ experts, rank, depth, width, ...(top !== undefined && { top }) }))
    mustBeWhole('x-lora', what, n)
  const alphas = typeof alpha === 'number' ? Array<number>(experts).fill(alpha) : alpha
  if (alphas.length !== experts)
    throw new Error(`x-lora: ${experts} experts have ${alphas.length} values of alpha; give one number or one for each`)
  if (top !== undefined && top > experts) throw new Error(`x-lora: top ${top} exceeds the ${experts} experts; lower it`)

  /** gates of every token [B, T, L or 1, n] from hidden states [B, T, D] */
  const gate = (hidden: Tensor, state: Readonly<Record<string, Tensor>>, { training, rng }: RunContext): Tensor => {
    let h = hidden
    for (let i = 0; i < depth; i++) {
      if (i) h = relu(h)
      if (i && training && rng && dropout) h = mul(h, div(rng.fork(i).bernoulli(h.shape, 1 - dropout), 1 - dropout))
      h = linear(h, state[`w${i}`] as Tensor2D, state[`b${i}`])
    }
    const logits = reshape(h, [...hidden.shape.slice(0, -1), -1, experts])
    return options.softmax === false ? logits : softmax(div(logits, temperature))
  }
  /** of one site [..., n] */
  const chosen = (g: Tensor): Tensor => {
    if (top === undefined && !softmaxTop) return g
    const kept = top === undefined ? g : mul(g, best(g, top))
    if (!softmaxTop) return kept
    const acts = notEqual(kept, 0)
    return where(acts, softmax(where(acts, kept, -1e30)), 0)
  }
  return {
    name: 'x-lora',
    options: { ...options },
    init: (site, { rng, sites }) => {
      const linears = adapted(sites)
      if (site.kind === 'model') {
        const w = widths(options, site.in, Math.max(1, linears.length))
        const state: Record<string, Tensor> = {}
        for (const [i, out] of w.slice(1).entries()) {
          state[`w${i}`] = kaiming(rng.fork(`w${i}`), [out, w[i]!])
          state[`b${i}`] = rng.fork(`b${i}`).uniform([out], -1 / Math.sqrt(w[i]!), 1 / Math.sqrt(w[i]!))
        }
        return { state: state as XLoraState }
      }
      if (site.kind === 'head' || site.name === 'norm') return { state: {} as XLoraState }
      if (site.kind !== 'linear') return undefined
      if (sites.length > 1 && !['model', 'norm'].every((n) => sites.some((s) => s.name === n)))
        throw new Error(
          `${site.name}: x-lora reads the hidden states of a first pass; put it on "model", "norm" and "head" as well as on linear sites`,
        )
      const [out, input] = site.weight!.shape
      const place = Math.max(0, linears.indexOf(site))
      return {
        state: {
          a: kaiming(rng, [experts * rank, input]) as Tensor2D,
          b: zeros([out, experts * rank]) as Tensor2D,
          place: tensor1d([place], 'int32'),
        },
        trains: trainExperts ? ['a', 'b'] : [],
      }
    },
    // two passes of the model, by the mathematics: what the gates read is what it makes of the text without them
    around: (next, x, state, ctx) => {
      const { site, scratch } = ctx
      const gates = scratch.get(GATES)
      if (site.kind === 'model') {
        const alone = (): unknown => untaped(() => next(x))
        if (ctx.aside) ctx.aside(alone)
        else alone()
        const hidden = scratch.get(HIDDEN)
        if (!hidden) throw new Error('x-lora: no hidden states were seen; put it on "norm", too')
        scratch.set(GATES, gate(hidden, state, ctx))
        return next(x)
      }
      if (site.kind === 'norm') {
        const y = next(x)
        if (!gates) scratch.set(HIDDEN, y)
        return y
      }
      // nobody looks at the logits of the first pass
      if (site.kind === 'head') return gates ? next(x) : x
      if (!gates && !first) return next(x)
      const lead = x.shape.slice(0, -1)
      const own = !gates
        ? zeros([1, experts])
        : reshape(layerwise ? gather(gates, state.place as never, -2 + gates.rank) : gates, [...lead, experts])
      const g = chosen(gates ? own : add(own, first)) // [..., n]
      const s = tensor1d(alphas.map((v) => (scale * v) / rank))
      const h = reshape(linear(x, state.a), [...lead, experts, rank])
      const weighed = mul(h, reshape(mul(g, s), [...g.shape, 1]))
      return add(next(x), linear(reshape(weighed, [...lead, experts * rank]), state.b))
    },
  }
}
