import type { Network, Rng, Tensor } from '@weftjs/spec'
import { orAtOnce } from '@weftjs/tensor'
import { attach, type Tuned } from './attach.ts'
import type { Attachment, AttachOptions } from './bind.ts'
import type { TransformerConfig } from './config.ts'
import { matcher } from './match.ts'
import { sitesOf } from './sites.ts'

export interface AttachAsyncOptions extends AttachOptions {
  /** what an adapter reads beside the network and what was seen: LoftQ's original */
  readonly reads?: readonly Tensor[]
}

/**
 * `attach`, also for starts that decompose a matrix or choose by numbers (PiSSA, EVA, SaRA) where a GPU cannot be read
 * without waiting, as WebGPU in Node cannot: there the matrices of their sites are fetched and they start in plain JavaScript.
 */
export const attachAsync = async (
  network: Network<TransformerConfig>,
  attachments: readonly Attachment[],
  rng: Rng,
  { reads = [], ...options }: AttachAsyncOptions = {},
): Promise<Tuned> => {
  const wanted = (): Tensor[] => {
    const sites = sitesOf(network)
    return attachments.flatMap(({ adapter, at }) =>
      sites
        .filter(matcher(at))
        .flatMap(({ name, weight, vectors = {} }) => [
          ...Object.values(weight?.parts ?? {}),
          ...Object.values(vectors),
          ...(options.seen?.[name] ? (adapter.calibrates ?? []).map((s) => options.seen![name]!.get(s)) : []),
        ]),
    )
  }
  return orAtOnce(
    () => [...wanted(), ...reads],
    () => attach(network, attachments, rng, options),
  )
}
