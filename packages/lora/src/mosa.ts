import type { Adapter, Rng, RunContext, Site, Tensor, Tensor1D, Tensor2D } from '@weftjs/spec'
import { add, cast, equal, floor, layerNorm, linear, mul, ones, sub, tensor, zeros } from '@weftjs/tensor'
import { ACTIVATIONS, activated, type Hidden } from './shared/bottleneck.ts'
import { kaiming, mustBeNumber, mustBeWhole } from './shared/start.ts'

export interface MosaOptions {
  /** hidden units */
  readonly width?: number
  /** M, parts of the adapter, of which a pass in training draws one */
  readonly experts?: number
  /** what is parted: the way up alone (the paper's hierarchical form), or both ways */
  readonly split?: 'up' | 'both'
  /** what belongs to one part together: single numbers, or whole rows or columns */
  readonly by?: 'entry' | 'row' | 'column'
  /** how the parts become one: the mean of the M copies, so that each trained number enters by 1/M, or their union */
  readonly merge?: 'mean' | 'sum'
  /** beside the module (AdaptFormer), or on what comes out (Pfeiffer) */
  readonly place?: 'beside' | 'after'
  readonly scale?: number
  readonly activation?: Hidden
}
export interface MosaState extends Record<string, Tensor> {
  /** of the norm before the adapter [d] */
  norm: Tensor1D
  normBias: Tensor1D
  /** D [w, d], [w] */
  down: Tensor2D
  downBias: Tensor1D
  /** U [d, w], [d]: of each number the copy that trains it */
  up: Tensor2D
  upBias: Tensor1D
  /** which of the M parts each number of U belongs to, fixed; and of D, with where D began */
  upOwner: Tensor2D
  upBiasOwner: Tensor1D
  downOwner?: Tensor2D
  downStart?: Tensor2D
}

/** numbers that train at a site: 2·w·d + w + d, and 2·d of the norm, whatever M is */
export const trainable = ({ out: d }: Site, { width = 64 }: MosaOptions = {}): number => 2 * width * d + width + 3 * d

/** a number below `parts` for each entry, in parts of equal size, at random */
const owners = (rng: Rng, shape: number[], parts: number, by: NonNullable<MosaOptions['by']>): Tensor => {
  const [rows, columns = 1] = shape as [number, number?]
  const n = by === 'entry' || shape.length === 1 ? rows * columns : by === 'row' ? rows : columns
  const order = [...rng.numbers(n).entries()].sort((a, b) => a[1] - b[1]).map(([i]) => i)
  const own = new Float32Array(n)
  for (const [rank, i] of order.entries()) own[i] = rank % parts
  const at = (i: number): number => (n === rows * columns ? i : by === 'row' ? Math.floor(i / columns) : i % columns)
  return tensor(
    Float32Array.from({ length: rows * columns }, (_, i) => own[at(i)]!),
    shape,
  )
}

/**
 * M(x) + s·U·gelu(D·norm(x)), U in M parts: one at random in training, their mean after it  —  Zhang et al., arXiv:2312.02923
 *
 * The paper trains with `agreement`: two passes of one batch under two draws and all logits of both, beside those of the loss, so
 * that a step takes somewhat more than twice LoRA's by the mathematics. The adapters themselves are a few hundredths of it.
 */
export const mosa = (options: MosaOptions = {}): Adapter<MosaState> => {
  const { width = 64, experts = 4, split = 'up', by = 'entry', merge = 'mean', place = 'beside' } = options
  const { scale = 1, activation = 'gelu' } = options
  mustBeNumber('mosa: scale', scale)
  mustBeWhole('mosa', 'width', width)
  mustBeWhole('mosa', 'experts', experts)
  if (!ACTIVATIONS.includes(activation))
    throw new Error(`mosa: there is no activation '${activation}'; there are ${ACTIVATIONS.join(', ')}`)
  // the copies differ from their start only where their own part lies, so that one tensor holds them all
  // (a part that is not drawn has the gradient 0, under which an optimizer's momentum still moves it a little; its own copy would rest)
  const factor = merge === 'mean' ? 1 / experts : 1
  /** the part of t that this pass draws, or all parts as one */
  const acting = (t: Tensor, owner: Tensor, part: Tensor | undefined, start?: Tensor): Tensor => {
    const moved = start ? sub(t, start) : t
    const kept = mul(moved, part ? cast(equal(owner, part), 'float32') : factor)
    return start ? add(start, kept) : kept
  }
  /** drawn as a tensor, so that a recorded step draws anew: [] */
  const drawn = ({ training, rng }: RunContext, what: string): Tensor | undefined =>
    training && rng ? floor(mul(rng.fork(what).uniform([]), experts)) : undefined
  return {
    name: 'mosa',
    options: { ...options },
    init: ({ name, kind, out: d }, { rng }) => {
      if (kind !== 'attn' && kind !== 'mlp' && kind !== 'block')
        throw new Error(`${name} (${kind}): adapters stand at 'blocks.*.mlp' or 'blocks.*.attn'; narrow "at"`)
      const entries = by === 'entry' ? d * width : by === 'row' ? d : width
      if (experts > Math.min(entries, d))
        throw new Error(`${name}: ${experts} experts for tensors of ${Math.min(entries, d)} parts; lower experts`)
      const down = kaiming(rng, [width, d]) as Tensor2D
      const state: MosaState = {
        ...{ norm: ones([d]) as Tensor1D, normBias: zeros([d]) as Tensor1D },
        ...{ down, downBias: zeros([width]) as Tensor1D },
        ...{ up: zeros([d, width]) as Tensor2D, upBias: zeros([d]) as Tensor1D },
        upOwner: owners(rng.fork('up'), [d, width], experts, by) as Tensor2D,
        upBiasOwner: owners(rng.fork('bias'), [d], experts, by) as Tensor1D,
        ...(split === 'both' && {
          downOwner: owners(rng.fork('down'), [width, d], experts, by) as Tensor2D,
          downStart: add(down, 0) as Tensor2D,
        }),
      }
      return { state, trains: ['norm', 'normBias', 'down', 'downBias', 'up', 'upBias'] }
    },
    around: (next, x, s, ctx) => {
      const [first, second] = [s.downOwner && drawn(ctx, 'down'), drawn(ctx, 'up')]
      const down = s.downOwner ? acting(s.down, s.downOwner, first, s.downStart) : s.down
      const adapter = (z: Tensor): Tensor => {
        const hidden = activated(linear(layerNorm(z, s.norm, s.normBias), down, s.downBias), activation) // [..., w]
        return linear(hidden, acting(s.up, s.upOwner, second), acting(s.upBias, s.upBiasOwner, second))
      }
      const y = next(x)
      return add(y, mul(adapter(place === 'after' ? y : x), scale))
    },
  }
}
