import type { Codec, Params } from '@weftjs/spec'
import type { Decoder } from '@weftjs/tensor/decoded'

/** A codec of ours that says how it decodes within a product, for those that wrap it. */
export interface Decodable<P extends Params = Params> extends Codec<P> {
  decoder(packed: P, shape: readonly [number, number]): Decoder
}
