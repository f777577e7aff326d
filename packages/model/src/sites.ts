import type { Network, Site, SiteKind } from '@weftjs/spec'
import type { TransformerConfig } from './config.ts'

/** Every place of a network that a method can hook, in the order of the forward pass. See docs/sites.md. */
export const sitesOf = ({ config: c, weights, vectors }: Network<TransformerConfig>): readonly Site[] => {
  const D = c.width
  const site = (name: string, kind: SiteKind, layer: number, width = D, out = width): Site => {
    const weight = weights[name] ?? (name === 'head' && c.tied ? weights['embed'] : undefined)
    if (weight && kind !== 'embed') return { name, kind, layer, in: weight.shape[1], out: weight.shape[0], weight }
    return { name, kind, layer, in: width, out, ...(weight && { weight }) }
  }
  const linears = (prefix: string, layer: number, names: readonly string[]): Site[] =>
    names.filter((n) => weights[`${prefix}.${n}`]).map((n) => site(`${prefix}.${n}`, 'linear', layer))
  const norms = (layer: number, ...names: string[]): Site[] =>
    names.filter((n) => vectors[n]).map((n) => site(n, 'norm', layer, vectors[n]!.size))
  const block = (i: number): Site[] => {
    const b = `blocks.${i}`
    return [
      site(b, 'block', i),
      ...norms(i, `${b}.norm1`),
      site(`${b}.attn`, 'attn', i),
      ...linears(`${b}.attn`, i, ['qkv', 'q', 'k', 'v']),
      ...norms(i, `${b}.attn.qnorm`, `${b}.attn.knorm`),
      site(`${b}.attn.core`, 'core', i, c.heads * c.headWidth),
      ...linears(`${b}.attn`, i, ['o']),
      ...norms(i, `${b}.norm1post`, `${b}.norm2`),
      site(`${b}.mlp`, 'mlp', i),
      ...linears(`${b}.mlp`, i, ['gate', 'up', 'down']),
      ...norms(i, `${b}.norm2post`),
    ]
  }
  return [
    site('model', 'model', -1, D, c.vocabulary),
    site('embed', 'embed', -1, c.vocabulary, D),
    ...norms(-1, 'embed.norm'),
    ...Array.from({ length: c.layers }, (_, i) => block(i)).flat(),
    ...norms(-1, 'norm'),
    ...Object.keys(weights)
      .filter((n) => n.startsWith('head.') || n === 'pooler')
      .map((n) => site(n, 'linear', -1)),
    ...norms(-1, 'head.norm'),
    ...(weights['head'] || c.tied ? [site('head', 'head', -1)] : []),
  ]
}
