import type { Network, Site } from '@weftjs/spec'

/** names of all tensors of a network that can train whole */
export const tensorNames = ({ weights, vectors }: Network<any>): string[] => [
  ...Object.keys(weights),
  ...Object.keys(vectors),
]

/** how many numbers a tensor has */
export const sizeIn = ({ weights, vectors }: Network<any>, name: string): number => {
  const shape = weights[name]?.shape ?? vectors[name]!.shape
  return shape.reduce((p, n) => p * n, 1)
}

/** the matrix or scale of a site and its bias, as far as the network has them */
export const tensorsOf = ({ weights, vectors }: Network<any>, { name }: Site): string[] =>
  [name, `${name}.bias`].filter((n) => weights[n] || vectors[n])

/** layers of the blocks */
export const layersOf = (sites: readonly Site[]): number => 1 + sites.reduce((n, s) => Math.max(n, s.layer), -1)
