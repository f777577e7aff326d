import { match, matcher, namesOf, type PackedWriter, sitesOf, type TransformerConfig } from '@weftjs/model'
import { repack } from '@weftjs/model/node'
import { awq, awqClipped, awqScale, packedWriter as layoutFor, packing, quantize, streaming } from '@weftjs/quant'
import type { Codec, Config, Network, Site, Weight } from '@weftjs/spec'
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

/** @throws Failure that names the nearest where no matrix matches */
const mustMatch = (
  network: Pick<Network<TransformerConfig>, 'config'> & { readonly weights: object },
  at: OpenOptions['at'],
): void => {
  const wanted = at === undefined ? undefined : matcher(at)
  const names = Object.keys(network.weights)
  if (!wanted || names.some((name) => wanted({ name } as Site))) return
  try {
    match(sitesOf({ vectors: {}, ...network } as Network<TransformerConfig>), at!) // it knows what is nearest
  } catch (error) {
    throw new Failure(`at: ${(error as Error).message}`)
  }
  throw new Failure(`at: ${JSON.stringify(at)} is no matrix; name one, such as ${names.slice(0, 3).join(', ')}`)
}

/** What becomes of a model's matrices. */
export interface Packed {
  readonly matrices: number
  /** of those, scales included */
  readonly bits: number
  /** bytes of all matrices */
  readonly before: number
  readonly after: number
  readonly layout: string
  readonly files: readonly string[]
}
const elements = ({ shape }: Pick<Weight, 'shape'>): number => shape[0] * shape[1]

/**
 * A model from folder to folder in a format that looks at nothing, a tensor at a time; undefined where the network has to
 * be in memory: for a plan that looks, and for a model that is packed already.
 */
export const passThrough = async (
  folder: Folder,
  plan: Plan,
  out: string,
  { at, layout }: { readonly at?: string | undefined; readonly layout?: string | undefined },
): Promise<Packed | undefined> => {
  if (!plan.codec || (await isPacked(folder))) return undefined
  const how = streaming(plan.codec, {
    ...(at !== undefined && { at }),
    ...(layout !== undefined && { layout }),
    onProgress,
  })
  const { files, network, packed } = await repack(folder, how, out, { onOpen: (network) => mustMatch(network, at) })
  const weights = Object.values(network.weights)
  const of = (some: readonly (typeof weights)[number][]): number =>
    some.reduce(
      (n, w) => n + (w.codec ? Object.values(w.parts).reduce((m, { size }) => m + 4 * size, 0) : 4 * elements(w)),
      0,
    )
  const made = weights.filter((w) => w.codec)
  return {
    ...{ matrices: made.length, bits: (8 * of(made)) / made.reduce((n, w) => n + elements(w), 0) },
    ...{ before: weights.reduce((n, w) => n + 4 * elements(w), 0), after: of(weights) },
    ...{ layout: layoutIn(packed), files },
  }
}

const isPacked = async (folder: Folder): Promise<boolean> => {
  try {
    return Boolean((JSON.parse(await folder.text('config.json')) as Config)['quantization_config'])
  } catch {
    return false // who opens it says what is wrong
  }
}

/** what a packed model's config.json calls its layout */
export const layoutIn = (writer: PackedWriter | undefined): string =>
  (writer?.config['quantization_config'] as { quant_method?: string } | undefined)?.quant_method ?? 'weft'

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
  if (plan) mustMatch(network, at)
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
