import { namesOf, type PackedWriter, type TransformerConfig } from '@weftjs/model'
import { packedWriter as writerOf } from '@weftjs/quant'
import type { Network } from '@weftjs/spec'

/** how the packed weights of a network are written, as `save` takes it; nothing for a dense one */
export const packedWriter = async (
  network: Network<TransformerConfig>,
  layout?: string,
): Promise<{ packed?: PackedWriter }> => {
  const packed = await writerOf(network, namesOf(network.config), layout)
  return packed ? { packed } : {}
}
