import { type Sight, seeing, type TransformerConfig } from '@weftjs/model'
import type { Batch, Codec, Network } from '@weftjs/spec'
import { counted, status } from './terminal.ts'

/** How a network is to be packed. */
export interface Plan {
  readonly name: string
  /** whether it looks at what the matrices read */
  readonly looks: boolean
  /** the one that packs all alike, as they are read */
  readonly codec?: Codec<any>
  /** the network in its format; `batches` where it looks */
  run(network: Network<TransformerConfig>, options: PackOptions): Promise<Network<TransformerConfig>>
}
export interface PackOptions {
  readonly at?: string | readonly string[] | undefined
  /** the dense matrices are given up as they are packed */
  readonly consume: boolean
  /** what the network reads while it is looked at */
  readonly batches?: () => Promise<readonly Batch[]>
}

/** of `quantize` */
export const onProgress = ({ name, weights, of }: { name: string; weights: number; of: number }): void =>
  status(`${counted(weights, of)}  packing ${name}`, weights === of)

/** a look at what matrices read, stage by stage; undefined where there is nothing to read */
export const sightOf = async ({ batches }: PackOptions): Promise<Sight | undefined> =>
  batches &&
  seeing(await batches(), {
    onProgress: ({ batches: done, of, block, names }) =>
      status(`${counted(done, of)}  block ${block}${names.length ? `, ${names[0]}` : ''}`),
  })
