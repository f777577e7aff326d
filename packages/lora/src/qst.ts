import type { Adapter, BlockShape, Site, Tensor, Tensor1D, Tensor2D } from '@weftjs/spec'
import {
  add,
  fill,
  layerNorm,
  lerp,
  linear,
  max,
  mean,
  mul,
  ones,
  reshape,
  rmsNorm,
  sigmoid,
  silu,
  stopGradient,
  sub,
  zeros,
} from '@weftjs/tensor'
import { type SideBlock, sideBlock, sideBlockCount, sideBlockStart } from './shared/side-block.ts'
import { kaiming, mustBeNumber, mustBeWhole } from './shared/start.ts'

export interface QstOptions {
  /** r: every width of the side network is that of the model over r */
  readonly reduction?: number
  /** hidden units of the way down from the model to the side; or pools of r channels, which have nothing to train */
  readonly rank?: number
  readonly down?: 'low-rank' | 'mean' | 'max'
  /** α at the start: 1 gives the model itself, and a first step that moves α alone (the paper; its code begins at σ(1) = 0.73) */
  readonly alpha?: number
}
/** at a block: the way down, the gate, and the side block */
export interface QstState extends SideBlock {
  /** A [rank, d], B [d/r, rank] and the norm after them [d/r] */
  a: Tensor2D
  b: Tensor2D
  scale: Tensor1D
  shift: Tensor1D
  /** z [d/r] of the gate β = σ(z) between what comes down and the side state */
  z: Tensor1D
  /** at the last norm: α [d], the side's own norm [d/r], the way up [d, d/r] and its bias [d] */
  alpha: Tensor1D
  norm: Tensor1D
  wide: Tensor2D
  wideBias: Tensor1D
}

/** [d/r, hidden/r]. @throws Error where r divides them or the heads unevenly */
const narrow = ({ name, out: d, block }: Site, r: number): [width: number, hidden: number] => {
  const { heads, hidden, theta } = block as BlockShape
  const S = d / r / heads
  if (!Number.isInteger(S) || S < 1 || !Number.isInteger(hidden / r) || (theta !== undefined && S % 2))
    throw new Error(
      `${name}: width ${d} in ${heads} heads and ${hidden} hidden units over ${r} leave heads of width ${S}, which must be whole${theta === undefined ? '' : ' and even'}; choose another reduction`,
    )
  return [d / r, hidden / r]
}

/** numbers that train at a site: rank·(d + d/r) + 3·d/r and a narrow block; at the norm 2·d + d/r + d²/r */
export const trainable = (site: Site, { reduction: r = 16, rank = 16, down = 'low-rank' }: QstOptions = {}): number => {
  const d = site.out
  if (site.kind === 'norm') return 2 * d + d / r + (d * d) / r
  const [width, hidden] = narrow(site, r)
  return (down === 'low-rank' ? rank * (d + width) + 2 * width : 0) + width + sideBlockCount(width, site.block!, hidden)
}

const STATE = 'qst'

/** α ⊙ norm(h_L) + (1 − α) ⊙ U·norm(s_L), s_i = Block_i((1 − β)·D_i(h_i) + β·s_{i−1}) beside a frozen model  —  Zhang et al., arXiv:2401.07159 */
export const qst = (options: QstOptions = {}): Adapter<QstState> => {
  const { reduction = 16, rank = 16, down = 'low-rank', alpha = 1 } = options
  mustBeWhole('qst', 'reduction', reduction)
  mustBeWhole('qst', 'rank', rank)
  mustBeNumber('qst: alpha', alpha)
  if (!['low-rank', 'mean', 'max'].includes(down))
    throw new Error(`qst: down is low-rank, mean or max, found '${down}'`)
  /** D(h): [B, T, d] → [B, T, d/r]; the model gets no gradient from here */
  const lower = (h: Tensor, s: QstState): Tensor => {
    const x = stopGradient(h)
    if (down !== 'low-rank') {
      const pools = reshape(x, [...x.shape.slice(0, -1), x.shape.at(-1)! / reduction, reduction])
      return down === 'mean' ? mean(pools, -1) : max(pools, -1)
    }
    return layerNorm(linear(silu(linear(x, s.a)), s.b), s.scale, s.shift)
  }
  return {
    name: 'qst',
    options: { ...options },
    init: (site, { rng, sites }) => {
      const { name, kind, out: d } = site
      const width = d / reduction
      if (kind === 'norm' && name === 'norm') {
        const state = {
          ...{ alpha: fill([d], alpha), norm: ones([width]) },
          ...{ wide: kaiming(rng, [d, width]), wideBias: zeros([d]) },
        }
        return { state: state as unknown as QstState }
      }
      if (kind !== 'block')
        throw new Error(`${name} (${kind}): a side network stands at 'blocks.*' and 'norm'; narrow "at"`)
      if (!sites.some((s) => s.name === 'norm'))
        throw new Error(`${name}: the side network joins the model at its last norm; put qst at ['blocks.*', 'norm']`)
      const [, hidden] = narrow(site, reduction)
      const ways = {
        ...{ a: kaiming(rng.fork('a'), [rank, d]), b: kaiming(rng.fork('b'), [width, rank]) },
        ...{ scale: ones([width]), shift: zeros([width]) },
      }
      const state = {
        ...(down === 'low-rank' && ways),
        z: fill([width], 0.5),
        ...sideBlockStart(rng.fork('block'), width, site.block!, hidden),
      }
      return { state: state as unknown as QstState }
    },
    around: (next, x, s, ctx) => {
      const h = next(x)
      const before = ctx.scratch.get(STATE)
      if (ctx.site.kind === 'norm') {
        if (!before) throw new Error(`${ctx.site.name}: no block has a side block; put qst at ['blocks.*', 'norm']`)
        const up = linear(rmsNorm(before, s.norm), s.wide, s.wideBias) // [B, T, d]
        return add(mul(h, s.alpha), mul(up, sub(1, s.alpha)))
      }
      // the embedding comes down by the way of the first block
      const mixed = lerp(lower(h, s), before ?? lower(x, s), sigmoid(s.z))
      ctx.scratch.set(STATE, sideBlock(mixed, s, ctx))
      return h
    },
  }
}
