import type { Network, Tensor } from '@weftjs/spec'

type Held = Pick<Network<object>, 'weights'> & Partial<Pick<Network<object>, 'vectors'>>

/** Every tensor that a network holds; what two weights share counts once. */
export const tensorsOf = ({ weights, vectors = {} }: Held): Tensor[] => [
  ...new Set([...Object.values(weights).flatMap((w) => Object.values(w.parts)), ...Object.values(vectors)]),
]
