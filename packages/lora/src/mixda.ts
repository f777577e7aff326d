import type { Adapter, RunContext, Site, Tensor, Tensor1D, Tensor2D } from '@weftjs/spec'
import {
  add,
  cast,
  div,
  linear,
  maximum,
  mean,
  mul,
  relu,
  reshape,
  slice,
  softmax,
  square,
  sub,
  sum,
  tensor1d,
  zeros,
} from '@weftjs/tensor'
import { bottleneck, bottleneckCount, bottleneckStart, thinned } from './shared/bottleneck.ts'
import { mustBeChance } from './shared/dropped.ts'
import { kaiming, mustBeNumber, mustBeWhole } from './shared/start.ts'

export interface MixdaOptions {
  /** K adapters, one for each domain */
  readonly domains?: number
  /** c: hidden units of an adapter are m/c, m the hidden units of the MLP */
  readonly reduction?: number
  /** what trains: in stage 1 the gate and adapter number `domain` (all where none is named), in stage 2 the gate alone */
  readonly stage?: 1 | 2
  readonly domain?: number
  /** o = f + Σ gₖ·aₖ, which starts as the model, in place of the paper's o = g·f + Σ gₖ·aₖ */
  readonly residual?: boolean
  /** what the gate's logit of the frozen MLP begins at: 0 gives every part 1/(K + 1) */
  readonly gateStart?: number
  /** hidden units of the gate's three hidden layers, and its dropout */
  readonly gateWidth?: number
  readonly gateDropout?: number
  /** one gate for each token, or one for the text from its last place; by default as the model is causal or not */
  readonly gate?: 'token' | 'last'
  /** weight of mean (o − f)² over the rows that `inputs.generic` [B] marks with 1: old knowledge stays */
  readonly old?: number
}
/** of adapter k: `downK` [m/c, m], `upK` [d, m/c], and biases; of the gate: `gate1` ... `gate4`, and biases */
export interface MixdaState extends Record<string, Tensor> {}

const hiddenOf = ({ name, in: m }: Site, { reduction = 16 }: MixdaOptions): number => {
  if (m % reduction)
    throw new Error(`${name}: reduction ${reduction} does not divide its ${m} inputs; choose one that does`)
  return m / reduction
}
const gateCount = (m: number, { domains = 1, gateWidth: g = 768 }: MixdaOptions): number =>
  (m + 1) * g + 2 * (g + 1) * g + (g + 1) * (domains + 1)

/** numbers that train at a site: w·(m + d) + w + d for each adapter that trains, w = m/c; and the gate's four layers */
export const trainable = (site: Site, options: MixdaOptions = {}): number => {
  const { domains = 1, stage = 1, domain } = options
  const adapters = stage === 2 ? 0 : domain === undefined ? domains : 1
  return (
    adapters * bottleneckCount(site.in, site.out, { width: hiddenOf(site, options), bias: true }) +
    gateCount(site.in, options)
  )
}

/** Σ gₖ·Uₖ·gelu(Dₖ·z) + g·W·z, z the hidden units of an MLP and W its down matrix  —  Diao et al., arXiv:2306.05406 */
export const mixda = (options: MixdaOptions = {}): Adapter<MixdaState> => {
  const { domains = 1, stage = 1, domain, residual = false, gateStart = 0, old = 1 } = options
  const { gateWidth = 768, gateDropout = 0.2 } = options
  for (const [what, n] of Object.entries({ domains, gateWidth, reduction: options.reduction ?? 16 }))
    mustBeWhole('mixda', what, n)
  mustBeChance('mixda: gateDropout', gateDropout)
  mustBeNumber('mixda: gateStart', gateStart)
  mustBeNumber('mixda: old', old)
  if (stage !== 1 && stage !== 2) throw new Error(`mixda: stage is 1 or 2, found ${stage}`)
  if (domain !== undefined && !(Number.isInteger(domain) && domain >= 0 && domain < domains))
    throw new Error(`mixda: domain ${domain} is not one of ${domains}, counted from 0`)
  /** softmax over K + 1 parts: [B, T, K + 1], or [B, 1, K + 1] */
  // m·g + 2·g² products for each token, g = 768: as many as a small model's block has, which is why the paper adapts two layers
  const gates = (z: Tensor, s: MixdaState, ctx: RunContext): Tensor => {
    const [B, T, m] = z.shape as [number, number, number]
    const last = (options.gate ?? (ctx.site.block?.causal ? 'token' : 'last')) === 'last'
    let h = last ? slice(z, [0, T - 1, 0], [B, 1, m]) : z
    for (const i of [1, 2, 3]) {
      const there = relu(linear(h, s[`gate${i}`] as Tensor2D, s[`gateBias${i}`]))
      h = thinned(there, gateDropout, { training: ctx.training, ...(ctx.rng && { rng: ctx.rng.fork(i) }) })
    }
    return softmax(linear(h, s['gate4'] as Tensor2D, s['gateBias4']))
  }
  return {
    name: 'mixda',
    options: { ...options },
    init: (site, { rng }) => {
      const { name, kind, in: m, out, block } = site
      if (kind !== 'linear')
        throw new Error(`${name} (${kind}): domain adapters stand at 'blocks.*.mlp.down'; narrow "at"`)
      if (options.gate === 'last' && block?.causal)
        throw new Error(
          `${name}: a gate from the last token would show all tokens what is to come; choose gate 'token'`,
        )
      const width = hiddenOf(site, options)
      const state: Record<string, Tensor> = {}
      for (let k = 0; k < domains; k++) {
        const own = bottleneckStart(name, rng.fork(k), [m, out], { width, bias: true })
        for (const [key, t] of Object.entries(own)) state[`${key}${k}`] = t!
      }
      const sizes = [m, gateWidth, gateWidth, gateWidth, domains + 1]
      for (const i of [1, 2, 3, 4]) {
        state[`gate${i}`] = kaiming(rng.fork(`gate${i}`), [sizes[i]!, sizes[i - 1]!])
        state[`gateBias${i}`] = zeros([sizes[i]!]) as Tensor1D
      }
      state['gateBias4'] = tensor1d([...Array<number>(domains).fill(0), gateStart])
      const trains = Object.keys(state).filter((key) => {
        const [, k] = /^(?:down|up|downBias|upBias)(\d+)$/.exec(key) ?? []
        return k === undefined || (stage === 1 && (domain === undefined || Number(k) === domain))
      })
      return { state, trains }
    },
    around: (next, z, s, ctx) => {
      const f = next(z) // [B, T, d]
      const g = gates(z, s, ctx)
      const part = (t: Tensor, k: number): Tensor => mul(t, slice(g, [0, 0, k], [g.shape[0]!, g.shape[1]!, 1]))
      let o = residual ? f : part(f, domains)
      for (let k = 0; k < domains; k++) {
        const own = { down: s[`down${k}`], up: s[`up${k}`], downBias: s[`downBias${k}`], upBias: s[`upBias${k}`] }
        o = add(o, part(bottleneck(z, own as never, 'gelu', 0, ctx), k))
      }
      const { generic } = ctx.inputs
      if (ctx.training && generic && old) {
        // the paper compares after the residual and its norm, which are not seen from here
        const rows = reshape(cast(generic, 'float32'), [-1]) // [B]
        const apart = mean(square(sub(o, f)), [1, 2]) // [B]
        ctx.penalty(div(mul(sum(mul(apart, rows)), old), maximum(sum(rows), 1)) as never)
      }
      return o
    },
  }
}
