import type { Config, Network } from '@weftjs/spec'
import type { TransformerConfig } from './config.ts'

/** Layers from the first of a pair up to, not including, the second. */
export type LayerRange = readonly [start: number, end: number]

/** runs of numbers as ranges: 0 1 1 2 3 → [0, 2] [1, 4] */
const rangesOf = (layers: readonly number[]): LayerRange[] => {
  const found: [number, number][] = []
  for (const i of layers) {
    const last = found.at(-1)
    if (last && last[1] === i) last[1]++
    else found.push([i, i + 1])
  }
  return found
}

/** config.json of the deeper model */
const deeper = (source: Config, c: TransformerConfig): Config => {
  const both = c.sliding.includes(true) && c.sliding.includes(false)
  const layers = 'n_layer' in source ? 'n_layer' : 'num_hidden_layers'
  return {
    ...source,
    [layers]: c.layers,
    // rules that count layers would count others now
    ...((both || Array.isArray(source['layer_types'])) && {
      layer_types: c.sliding.map((s) => (s ? 'sliding_attention' : 'full_attention')),
    }),
    ...(c.experts &&
      !c.experts.layers.every(Boolean) && {
        decoder_sparse_step: 1,
        mlp_only_layers: c.experts.layers.flatMap((here, i) => (here ? [] : [i])),
      }),
  }
}

/**
 * h ← blockᵢ(h) for the layers i of several ranges, one behind the other, weights shared  —  Kim et al., arXiv:2312.15166
 *
 * A deeper network, as PEFT's layer_replication makes it: [[0, 4], [2, 5]] are layers 0 1 2 3 2 3 4. Copies take no more
 * memory, and adapters put on them are apart. Quantize first: formats stay, and are shared, too.
 * @family lora
 * @throws Error that names the range which is not within the layers
 */
export const replicateLayers = (
  { config: c, weights, vectors }: Network<TransformerConfig>,
  ranges: readonly LayerRange[],
): Network<TransformerConfig> => {
  const odd = ranges.find(
    (r) =>
      !Array.isArray(r) ||
      r.length !== 2 ||
      r.some((n) => !Number.isInteger(n)) ||
      !(r[0] >= 0 && r[0] < r[1] && r[1] <= c.layers),
  )
  if (odd || !ranges.length)
    throw new Error(
      `replicateLayers: ${odd ? `range ${JSON.stringify(odd)}` : 'no range'}; give ranges [start, end) within the ${c.layers} layers`,
    )
  const layers = ranges.flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i))
  const each = <T>(list: readonly T[]): T[] => layers.map((i) => list[i]!)
  const spread = <T>(named: Readonly<Record<string, T>>): Record<string, T> => {
    const outside: Record<string, T> = {}
    const inside = new Map<number, [rest: string, value: T][]>()
    for (const [name, value] of Object.entries(named)) {
      const [, i, rest] = /^blocks\.(\d+)\.(.+)$/.exec(name) ?? []
      if (i === undefined) outside[name] = value
      else inside.set(Number(i), [...(inside.get(Number(i)) ?? []), [rest!, value]])
    }
    const copies = layers.flatMap((from, to) =>
      (inside.get(from) ?? []).map(([rest, v]) => [`blocks.${to}.${rest}`, v] as const),
    )
    return { ...outside, ...Object.fromEntries(copies) }
  }
  const before = c.replicated?.flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i))
  const config: TransformerConfig = {
    ...c,
    layers: layers.length,
    sliding: each(c.sliding),
    ...(c.experts && { experts: { ...c.experts, layers: each(c.experts.layers) } }),
    names: c.names.map((n) => (n.layers ? { ...n, layers: each(n.layers) } : n)),
    replicated: rangesOf(before ? each(before) : layers),
  }
  return { config: { ...config, source: deeper(c.source, config) }, weights: spread(weights), vectors: spread(vectors) }
}
