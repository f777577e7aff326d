import { match, matcher, namesOf, type PackedWriter, sitesOf, type TransformerConfig } from '@weftjs/model'
import { awq, awqClipped, awqScale, packedWriter as layoutFor, packing, quantize } from '@weftjs/quant'
import type { Codec, Config, Network, Site } from '@weftjs/spec'
import { bytesOf, dispose } from '@weftjs/tensor'
import type { Folder } from '@weftjs/tensor/checkpoint'
import { tensorsOf } from '@weftjs/weight'
import { type CodecSettings, codecOf, namedIn, refuser } from './codecs.ts'
import { Failure } from './fail.ts'
import { mixedPlan } from './mixed-plan.ts'
import { openNetwork } from './models.ts'
import { onProgress, type PackOptions, type Plan, sightOf } from './plan.ts'
import { counted, status, statusDone, warn } from './terminal.ts'

/** the tensors of the first that none of the others has */
export const disposeOnly = (a: Network<any>, ...others: readonly Network<any>[]): void => {
  const kept = new Set(others.flatMap(tensorsOf))
  dispose(tensorsOf(a).filter((t) => !kept.has(t)))
}

const plain = (codec: Codec<any>): Plan => ({
  name: codec.name,
  looks: (codec.calibrates?.length ?? 0) > 0,
  ...(!codec.calibrates?.length && { codec }),
  run: async (network, options) => {
    const see = codec.calibrates?.length ? await sightOf(options) : undefined
    const { at, consume } = options
    const packed = await quantize(network, codec, { consume, ...(at && { at }), ...(see && { see }), onProgress })
    see?.dispose()
    return packed
  },
})

const activationAware = (settings: Config): Plan => ({
  name: 'awq',
  looks: true,
  run: async (network, options) => {
    const { at, consume } = options
    const see = (await sightOf(options))!
    const scaled = await awqScale(network, see, {
      codec: awq(settings),
      ...(at && { at }),
      onProgress: ({ block, of }) => status(`${counted(block, of)}  scales of the blocks`, block === of),
    })
    for (const { names, why } of scaled.left) warn(`${names.join(', ')}: not scaled, ${why}`)
    if (consume) disposeOnly(network, scaled.network)
    see.dispose()
    const again = (await sightOf(options))!
    const packed = await quantize(scaled.network, awqClipped(settings), {
      ...{ consume, see: again, onProgress },
      ...(at && { at }),
    })
    again.dispose()
    // what was scaled and is packed now is nobody's
    if (!consume) disposeOnly(scaled.network, network, packed)
    return packed
  },
})

/**
 * What `nf4-dq`, `gptq:bits=3`, `awq`, `mixed:bits=4.2` or an object of a run file does to a network.
 * @throws Failure for a format or an option that there is not
 */
export const planOf = (given: CodecSettings, field: string): Plan => {
  const wrong = refuser(field)
  const { name, options } = namedIn(given, wrong)
  if (name === 'mixed') return mixedPlan(options, field)
  const codec = codecOf(given, field)
  return name === 'awq' ? activationAware(options) : plain(codec)
}

/** @throws Failure for a plan that looks at data, where none are given */
export const mustHaveData = (plan: Plan, has: boolean, remedy: string): void => {
  if (plan.looks && !has) throw new Failure(`${plan.name} looks at what the model reads; ${remedy}`)
}

/** A model on its way into the format of a plan. */
export interface Opened {
  /** packed already where the plan could do so as the matrices were read */
  readonly network: Network<TransformerConfig>
  /** bytes of the matrices before the plan has packed them */
  readonly before: number
  /** in the plan's format; `network` is used up unless it is to be kept */
  pack(options?: Pick<PackOptions, 'batches'>): Promise<Network<TransformerConfig>>
}
export interface OpenOptions {
  readonly at?: string | readonly string[] | undefined
  readonly precision?: 'float32' | 'checkpoint' | undefined
  /** the network is needed as it was, too */
  readonly keep?: boolean
}

/** A model's network for a plan: matrices are packed as they are read, unless the whole has to be looked at. */
export const openFor = async (
  folder: Folder,
  plan: Plan | undefined,
  { at, precision, keep = false }: OpenOptions = {},
): Promise<Opened> => {
  const stream = plan?.codec && !keep && packing(plan.codec, { ...(at !== undefined && { at }) })
  const network = await openNetwork(folder, { precision, ...(stream && { packed: stream }) })
  const wanted = at === undefined ? undefined : matcher(at)
  if (plan && wanted && !Object.keys(network.weights).some((name) => wanted({ name } as Site))) {
    try {
      match(sitesOf(network), at!) // it knows what is nearest
    } catch (error) {
      throw new Failure(`at: ${(error as Error).message}`)
    }
  }
  const streamed = Object.values(network.weights).filter((w) => w.codec && w.codec === plan?.codec)
  const before = Object.values(network.weights).reduce(
    (n, w) => n + (streamed.includes(w) ? 4 * w.shape[0] * w.shape[1] : bytesOf(w.parts)),
    0,
  )
  return {
    network,
    before,
    pack: async (options) => {
      if (!plan || streamed.length) return network
      const packed = await plan.run(network, { at, consume: !keep, ...options })
      statusDone()
      return packed
    },
  }
}

/** how the packed weights of a network are written, as `save` takes it; nothing for a dense one */
export const packedWriter = async (
  network: Network<TransformerConfig>,
  layout?: string,
): Promise<{ packed?: PackedWriter }> => {
  const packed = await layoutFor(network, namesOf(network.config), layout)
  return packed ? { packed } : {}
}
