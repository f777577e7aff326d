import type { Network, Site, Tensor2D, Weight } from '@weftjs/spec'
import {
  add,
  gather,
  keep,
  largestOf,
  mul,
  oneHot,
  reshape,
  sub,
  sum,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
} from '@weftjs/tensor'

/** What an adapter adds to the matrices of its sites, by name [out, in]. */
export type DseeUpdates = Readonly<Record<string, Tensor2D>>

export interface DseePrunedOptions {
  /** share of the numbers that become zero, of the adapted matrices together and of the others together */
  readonly ratio: number
  /** adapted matrices by the size of their update alone (`update`), or of W with it (`whole`) */
  readonly by?: 'update' | 'whole'
}

const sized = (t: Tensor): Float32Array => Float32Array.from(t.dataSync() as Float32Array, Math.abs)
/** the same format, kept */
const cut = (w: Weight, by: (dense: Tensor2D) => Tensor): Weight =>
  tidy(() => {
    const made = w.like(by(w.dense()) as Tensor2D)
    for (const t of Object.values(made.parts)) keep(t)
    return made as never
  }) as unknown as Weight

/** W ⊙ S₁ for all linear sites: the smallest are zero, by one threshold over the adapted matrices and one over the others. */
export const dseePruned = <N extends Network<any>>(
  network: N,
  sites: readonly Site[],
  updates: DseeUpdates,
  { ratio, by = 'update' }: DseePrunedOptions,
): N => {
  if (!(ratio >= 0 && ratio < 1)) throw new Error(`dsee: ratio must be in [0, 1), found ${ratio}`)
  const weights: Record<string, Weight> = { ...network.weights }
  const linears = sites.filter((s) => s.kind === 'linear' && weights[s.name])
  for (const group of [linears.filter((s) => updates[s.name]), linears.filter((s) => !updates[s.name])]) {
    const scores = group.map(({ name }) => {
      const [w, u] = [weights[name]!.dense(), updates[name]]
      return sized(!u ? w : by === 'update' ? u : add(w, u))
    })
    const all = new Float32Array(scores.reduce((n, s) => n + s.length, 0))
    let at = 0
    for (const s of scores) {
      all.set(s, at)
      at += s.length
    }
    const mask = new Float32Array(all.length)
    for (const i of largestOf(all, all.length - Math.round(ratio * all.length))) mask[i] = 1
    at = 0
    group.forEach(({ name }, i) => {
      const own = mask.subarray(at, at + scores[i]!.length)
      at += own.length
      const shape = weights[name]!.shape as [number, number]
      weights[name] = cut(weights[name]!, (w) => mul(w, tensor2d(own, shape)))
    })
  }
  return { ...network, weights }
}

/** In each layer the heads whose rows of q and v are updated least give nothing: their rows of q and columns of o are zero. */
export const dseePrunedHeads = <N extends Network<any>>(
  network: N,
  sites: readonly Site[],
  updates: DseeUpdates,
  heads: number,
): N => {
  const weights: Record<string, Weight> = { ...network.weights }
  for (const o of sites.filter((s) => s.block && s.axes?.[1].startsWith('vo.') && weights[s.name])) {
    const { heads: H, kvHeads: G } = o.block!
    if (!Number.isInteger(heads) || heads < 0 || heads >= H)
      throw new Error(`${o.name}: ${heads} heads to prune, and there are ${H}; some must stay`)
    const made = (part: string): Site | undefined =>
      sites.find((s) => s.layer === o.layer && s.name.endsWith(`.attn.${part}`))
    const total = (site: Site | undefined, n: number): number[] => {
      const u = site && updates[site.name]
      return u ? [...sized(sum(reshape(tensor1d(sized(u)), [n, -1]), 1))] : Array<number>(n).fill(0)
    }
    const [q, v] = [total(made('q'), H), total(made('v'), G)]
    const least = largestOf(
      q.map((s, h) => -(s + v[Math.floor((h * G) / H)]! * (G / H))),
      heads,
    )
    const kept = sub(1, least.length ? sum(oneHot(tensor1d(least, 'int32'), H), 0) : tensor1d(Array<number>(H).fill(0)))
    const spread = (n: number): Tensor =>
      gather(
        kept,
        tensor1d(
          Array.from({ length: n }, (_, i) => Math.floor((i * H) / n)),
          'int32',
        ),
      )
    weights[o.name] = cut(weights[o.name]!, (w) => mul(w, spread(w.shape[1])))
    const query = made('q')
    if (query) weights[query.name] = cut(weights[query.name]!, (w) => mul(w, reshape(spread(w.shape[0]), [-1, 1])))
  }
  return { ...network, weights }
}
