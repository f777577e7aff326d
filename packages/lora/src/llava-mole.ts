import type { Adapter, RunContext, Scalar, Site, Tensor, Tensor1D, Tensor2D } from '@weftjs/spec'
import {
  add,
  argMax,
  concat,
  div,
  linear,
  mul,
  numbersNow,
  reshape,
  scalar,
  slice,
  softmax,
  sub,
  sum,
  tensor1d,
  untaped,
  zeros,
} from '@weftjs/tensor'
import { mustBeChance } from './shared/dropped.ts'
import { inverseOf, permute } from './shared/permute.ts'
import { experts, meanOver, tokensOf, topMask } from './shared/routing.ts'
import { kaiming, mustBeNumber, mustBeWhole, mustFit } from './shared/start.ts'

export interface LlavaMoleOptions {
  /** E */
  readonly experts?: number
  /** r */
  readonly rank?: number
  /** each expert is scaled by α/r */
  readonly alpha?: number
  /** chance that an input of the experts is dropped while training */
  readonly dropout?: number
  /** weight of the load balance in the loss */
  readonly balance?: number
  /**
   * `masked` runs all experts' small matrices at once and keeps the chosen one; `sparse` sorts the tokens by expert first,
   * which needs a backend that reads at once; both give the same. `dense` mixes all experts' FFNs by the router's p.
   */
  readonly dispatch?: 'masked' | 'sparse' | 'dense'
}
/** at an FFN its router, at its linears the experts */
export interface LlavaMoleState extends Record<string, Tensor> {}

/** numbers that train at a site: E·(in + 1) at an FFN, E·r·(in + out) at its linears */
export const trainable = ({ kind, in: n, out }: Site, { experts = 3, rank = 32 }: LlavaMoleOptions = {}): number =>
  kind === 'mlp' ? experts * (n + 1) : experts * rank * (n + out)

const ffnOf = (name: string): string | undefined => /^(.*\.mlp)\.[a-z]+$/.exec(name)?.[1]

/** FFN with W·x + (α/r)·Bₑ·Aₑ·x in each linear, e = argmax of one router for the whole FFN  —  Chen et al., arXiv:2401.16160 */
export const llavaMole = (options: LlavaMoleOptions = {}): Adapter<LlavaMoleState> => {
  const { experts: E = 3, rank: r = 32, alpha = 64, dropout = 0, balance = 0.01, dispatch = 'masked' } = options
  mustBeWhole('llava-mole', 'experts', E)
  mustBeChance('llava-mole: dropout', dropout)
  mustBeNumber('llava-mole: alpha', alpha)
  mustBeNumber('llava-mole: balance', balance)
  /** Σ mean(pₑ)·share(e) of each sequence over all FFNs: each adds what it changes of it */
  const spread = (p: Tensor, chosen: Tensor, { inputs, scratch, shared, penalty }: RunContext): void => {
    const tokens = tokensOf(inputs, p.shape)
    const keys = ['p', 'f'].map((k) => `llava-mole.balance.${k}`)
    const before = keys.map((k) => scratch.get(k))
    const now = [p, chosen].map((t, i) => {
      const mean = div(meanOver(t, tokens, [1]), shared['ffns']!) // [B, E]
      return before[i] ? add(before[i], mean) : mean
    })
    for (const [i, k] of keys.entries()) scratch.set(k, now[i]!)
    const term = ([p, f]: Tensor[]): Tensor => sum(mul(p!, f!))
    const gained = before[0] ? sub(term(now), term(before as Tensor[])) : term(now)
    penalty(mul(balance / p.shape[0]!, gained) as Scalar)
  }
  const ffn = (next: (x: Tensor) => Tensor, x: Tensor, { w, bias }: LlavaMoleState, ctx: RunContext): Tensor => {
    const { scratch, site, training } = ctx
    const p = softmax(linear(x, w!, bias)) // [B, T, E]
    const chosen = topMask(p, 1)
    if (training && balance) spread(p, chosen, ctx)
    /** all that comes here goes through expert e */
    const alone = (e: number, x: Tensor): Tensor => {
      scratch.set(`${site.name}.only.${e}`, x)
      const y = next(x)
      scratch.delete(`${site.name}.only.${e}`)
      return y
    }
    if (dispatch === 'dense') {
      const one = (e: number): Tensor => mul(slice(p, [0, 0, e], [-1, -1, 1]), alone(e, x))
      return Array.from({ length: E }, (_, e) => one(e)).reduce((a, b) => add(a, b))
    }
    // a GPU is not waited for: there every expert sees all, and one counts
    const to = dispatch === 'masked' ? undefined : numbersNow(untaped(() => argMax(reshape(p, [-1, E]), 1)))
    if (!to) {
      scratch.set(`${site.name}.gates`, chosen)
      return next(x)
    }
    const D = x.shape.at(-1)!
    const order = Int32Array.from({ length: to.length }, (_, i) => i).sort((i, j) => to[i]! - to[j]! || i - j)
    const [there, back] = [order, inverseOf(order)].map((o) => tensor1d(o, 'int32'))
    const sorted = permute(reshape(x, [-1, D]), there!, back!) // [B·T, D]
    let from = 0
    const parts = Array.from({ length: E }, (_, e) => {
      const n = order.reduce((n, i) => n + (to[i] === e ? 1 : 0), 0)
      const y = n ? alone(e, reshape(slice(sorted, [from, 0], [n, D]), [1, n, D])) : undefined // [1, n, D]
      from += n
      return y
    }).filter((y) => y !== undefined)
    return reshape(permute(reshape(concat(parts, 1), [-1, D]), back!, there!), x.shape)
  }
  return {
    name: 'llava-mole',
    options: { ...options },
    init: (site, { rng, sites, shared }) => {
      const ffns = sites.filter((s) => s.kind === 'mlp')
      shared('ffns', () => scalar(ffns.length))
      if (site.kind === 'mlp') {
        if (!sites.some((s) => ffnOf(s.name) === site.name))
          throw new Error(`${site.name}: a router, and no linear for its experts; widen "at" to ${site.name}.*`)
        const bound = 1 / Math.sqrt(site.in)
        return {
          state: { w: kaiming(rng, [E, site.in]), bias: rng.fork('bias').uniform([E], -bound, bound) as Tensor1D },
        }
      }
      const ffn = ffnOf(site.name)
      if (!ffn || !site.weight)
        throw new Error(
          `${site.name}: experts live in the linears of an FFN; narrow "at" to blocks.*.mlp and blocks.*.mlp.*, and put lora() here`,
        )
      if (!ffns.some((s) => s.name === ffn))
        throw new Error(`${site.name}: experts, and no router at ${ffn}; widen "at" to it`)
      mustFit(site, r)
      const [out, input] = site.weight.shape
      return { state: { a: kaiming(rng, [E * r, input]) as Tensor2D, b: zeros([out, E * r]) as Tensor2D } }
    },
    around: (next, x, state, ctx) => {
      if (ctx.site.kind === 'mlp') return ffn(next, x, state, ctx)
      const { a, b } = state as { a: Tensor2D; b: Tensor2D }
      const { scratch, site, training, rng } = ctx
      const read = training && dropout && rng ? mul(x, div(rng.bernoulli(x.shape, 1 - dropout), 1 - dropout)) : x
      const only = Array.from({ length: E }, (_, e) => e).find((e) => scratch.has(`${ffnOf(site.name)}.only.${e}`))
      const update =
        only === undefined
          ? experts(read, a, b, scratch.get(`${ffnOf(site.name)}.gates`)!)
          : linear(linear(read, slice(a, [only * r, 0], [r, -1])), slice(b, [0, only * r], [-1, r]))
      return add(next(x), mul(alpha / r, update))
    },
  }
}
