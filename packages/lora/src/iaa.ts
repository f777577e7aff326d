import type { Adapter, Site, Tensor } from '@weftjs/spec'
import { add } from '@weftjs/tensor'
import {
  type Bottleneck,
  type BottleneckBiases,
  bottleneck,
  bottleneckCount,
  bottleneckStart,
  checkBottleneck,
  type Hidden,
} from './shared/bottleneck.ts'
import { mustBeWhole } from './shared/start.ts'

export interface IaaOptions {
  /** hidden units after each attention and MLP; 0: none there */
  readonly inside?: number
  /** hidden units beside each block; 0: none there */
  readonly aside?: number
  readonly activation?: Hidden
  /** what is beside the blocks is a state of its own, added once before the last norm, instead of after each block */
  readonly carried?: boolean
}
export interface IaaState extends Bottleneck, BottleneckBiases {}

const widthAt = (site: Site, { inside = 16, aside = 16 }: IaaOptions): number =>
  site.kind === 'block' ? aside : site.kind === 'norm' ? 0 : inside

/** numbers that train at a site: 2·w·d + w + d, w the hidden units there */
export const trainable = (site: Site, options: IaaOptions = {}): number => {
  const width = widthAt(site, options)
  return width && bottleneckCount(site.out, site.out, { width, bias: true })
}

const STATE = 'iaa'

/** h + A(h) after each half of a block, and Block(h) + A(h) beside it  —  Ma et al., arXiv:2208.09847 */
export const iaa = (options: IaaOptions = {}): Adapter<IaaState> => {
  // no code is public; how the modules are joined is our reading: in series inside a block, and from block to block beside it
  const { inside = 16, aside = 16, activation = 'relu', carried = false } = options
  checkBottleneck('iaa', { activation })
  mustBeWhole('iaa', 'inside', inside, 0)
  mustBeWhole('iaa', 'aside', aside, 0)
  if (!inside && !aside) throw new Error('iaa: inside and aside are both 0, so nothing would train; give one a width')
  return {
    name: 'iaa',
    options: { ...options },
    init: (site, { rng, sites }) => {
      const { name, kind } = site
      if (!['block', 'attn', 'mlp'].includes(kind) && !(carried && kind === 'norm'))
        throw new Error(
          `${name} (${kind}): modules stand at 'blocks.*' and 'blocks.*.{attn,mlp}'${carried ? " and 'norm'" : ''}; narrow "at"`,
        )
      if (carried && kind === 'block' && !sites.some((s) => s.kind === 'norm'))
        throw new Error(`${name}: the state beside the blocks is added before the last norm; put iaa at 'norm', too`)
      const width = widthAt(site, options)
      if (!width) return kind === 'norm' ? { state: {} as IaaState } : undefined
      const { down, ...rest } = bottleneckStart(name, rng, [site.in, site.out], { width, init: 'zero', bias: true })
      return { state: { ...rest, down: rng.normal(down.shape, 0.02) as typeof down } as IaaState }
    },
    around: (next, x, state, ctx) => {
      const module = (z: Tensor): Tensor => bottleneck(z, state, activation, 0, ctx)
      const { kind } = ctx.site
      const before = carried && kind !== 'attn' && kind !== 'mlp' ? ctx.scratch.get(STATE) : undefined
      if (kind === 'norm') return next(before ? add(x, before) : x)
      if (kind === 'block') {
        if (!carried) return add(next(x), module(x))
        const made = module(before ? add(x, before) : x)
        ctx.scratch.set(STATE, before ? add(before, made) : made)
        return next(x)
      }
      const h = next(x)
      return add(h, module(h))
    },
  }
}
