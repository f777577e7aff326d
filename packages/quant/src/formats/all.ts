import type { Codec, Config, Weight } from '@weftjs/spec'
import type { Checkpoint } from '@weftjs/tensor/checkpoint'
import type { Names, PackedFormat, PackedWriter, WeightsToWrite } from './format.ts'
import { formats } from './index.ts'

/** those that other tools know first, our own last */
const ORDERED: readonly PackedFormat[] = [...formats].sort(
  (a, b) => Number(a.name === 'weft') - Number(b.name === 'weft'),
)
/** what any checkpoint holds as it is */
const PLAIN: ReadonlySet<string> = new Set(['bf16', 'f16'])

/** A weight in whichever of the layouts the checkpoint is in: the `packed` of `loadNetwork`. */
export const fromPacked = async (
  checkpoint: Checkpoint,
  hf: string,
  shape: readonly [number, number],
  config: Config,
): Promise<Weight | undefined> => {
  for (const format of ORDERED) {
    const found = await format.read(checkpoint, hf, shape, config)
    if (found) return found
  }
  return undefined
}

/**
 * How the packed weights of a network are written, in the first layout that holds them all; undefined for a dense network.
 * `name` asks for one of the layouts.
 * @throws Error where the layout asked for cannot hold them
 */
export const packedWriter = async (
  network: WeightsToWrite,
  names: Names,
  name?: string,
): Promise<PackedWriter | undefined> => {
  const codecs = Object.values(network.weights).flatMap(({ codec }) =>
    codec && !PLAIN.has(codec.name) ? [codec as Codec<any>] : [],
  )
  if (!codecs.length) return undefined
  const all = [...names]
  if (name !== undefined) {
    const format = ORDERED.find((f) => f.name === name)
    if (!format) throw new Error(`there is no layout '${name}'; there are ${ORDERED.map((f) => f.name).join(', ')}`)
    const odd = codecs.find((c) => !format.holds(c))
    if (odd) throw new Error(`${name} has no layout for the codec '${odd.name}'; leave it to us to choose one`)
    return format.writer(network, all)
  }
  const errors: string[] = []
  for (const format of ORDERED) {
    if (!codecs.every((c) => format.holds(c))) continue
    try {
      return await format.writer(network, all)
    } catch (error) {
      errors.push(`${format.name}: ${(error as Error).message}`)
    }
  }
  throw new Error(`no layout holds all packed weights (${errors.join('; ')})`)
}
