import { namesOf, type PackedWriter, type TransformerConfig } from '@weftjs/model'
import { bnbWriter } from '@weftjs/quant'
import type { Network } from '@weftjs/spec'
import { Failure } from './fail.ts'

/** formats that any checkpoint holds as they are */
const PLAIN: ReadonlySet<string> = new Set(['bf16', 'f16'])

/** how the packed weights of a network are written, as `save` takes it; nothing for a dense one */
export const packedWriter = async (network: Network<TransformerConfig>): Promise<{ packed?: PackedWriter }> => {
  const codecs = Object.values(network.weights).flatMap((w) => (w.codec && !PLAIN.has(w.codec.name) ? [w.codec] : []))
  const [first] = codecs
  if (!first) return {}
  const other = codecs.find((c) => c.name !== first.name)
  if (other)
    throw new Failure(`one checkpoint cannot hold both ${first.name} and ${other.name}; quantize with one codec`)
  return { packed: await bnbWriter(network, first, namesOf(network.config)) }
}
