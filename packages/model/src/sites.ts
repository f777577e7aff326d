import type { BlockShape, Network, Site, SiteKind } from '@weftjs/spec'
import { type NameAt, namesOf } from './architectures/architecture.ts'
import type { TransformerConfig } from './config.ts'
import { placeOf } from './places.ts'

/** Every place of a network that a method can hook, in the order of the forward pass. See docs/sites.md. */
export const sitesOf = ({ config: c, weights, vectors }: Network<TransformerConfig>): readonly Site[] => {
  const D = c.width
  const ends = {
    classes: c.classes ?? 0,
    labels: c.classes ?? 0,
    pooled: D,
    none: D,
    causal: c.vocabulary,
    masked: c.vocabulary,
  }[c.output]
  const files = new Map([...namesOf(c)].map((n) => [n.name, n]))
  const shape = (layer: number): BlockShape => ({
    ...{
      heads: c.heads,
      kvHeads: c.kvHeads,
      headWidth: c.headWidth,
      hidden: c.hidden,
      causal: c.causal,
      scale: c.scale,
    },
    ...(c.softcap !== undefined && { softcap: c.softcap }),
    ...(c.sliding[layer] && c.window !== undefined && { window: c.window }),
    ...(c.rope && { theta: c.rope.theta }),
  })
  const around = (name: string, kind: SiteKind, layer: number, width = D, out = width): Site => ({
    ...{ name, kind, layer, in: width, out },
    ...(layer >= 0 && { block: shape(layer) }),
  })
  /** what stands beside a matrix or in a norm */
  const beside = (name: string): Pick<Site, 'vectors'> => {
    const [scale, bias] = [vectors[name], vectors[`${name}.bias`]]
    return scale || bias ? { vectors: { ...(scale && { scale }), ...(bias && { bias }) } } : {}
  }
  /** a matrix, where the network has it; a tied head is the embedding's */
  const matrices = (kind: SiteKind, layer: number, ...names: string[]): Site[] =>
    names.flatMap((name) => {
      const weight = weights[name] ?? (name === 'head' && c.tied ? weights['embed'] : undefined)
      if (!weight) return []
      const { axes } = placeOf(c, name)
      const [out, input] = weight.shape
      const file = files.get(name)
      const sizes = kind === 'embed' && c.input === 'tokens' ? { in: out, out: input } : { in: input, out }
      return [
        {
          ...{ name, kind, layer, ...sizes, weight },
          // the tied head has a module of its own in every library, only no tensor
          ...moduleOf(file?.hf ?? c.names.find((n) => n.name === name)?.hf),
          ...(file?.layout === 'transposed' && { transposed: true }),
          ...(axes && { axes }),
          ...fusedOf(file, c.experts?.count ?? 1),
          ...(layer >= 0 && { block: shape(layer) }),
          ...beside(name),
        },
      ]
    })
  const norms = (layer: number, ...names: string[]): Site[] =>
    names
      .filter((n) => vectors[n])
      .map((n) => ({ ...around(n, 'norm', layer, vectors[n]!.size), ...moduleOf(files.get(n)?.hf), ...beside(n) }))
  const block = (i: number): Site[] => {
    const b = `blocks.${i}`
    const linears = (part: string, ...names: string[]): Site[] =>
      matrices('linear', i, ...names.map((n) => `${b}.${part}.${n}`))
    return [
      around(b, 'block', i),
      ...norms(i, ...(c.placement === 'post' ? [] : [`${b}.norm1`])),
      around(`${b}.attn`, 'attn', i),
      ...linears('attn', 'qkv', 'q', 'k', 'v'),
      ...norms(i, `${b}.attn.qnorm`, `${b}.attn.knorm`),
      around(`${b}.attn.core`, 'core', i, c.heads * c.headWidth),
      ...linears('attn', 'o'),
      ...norms(i, ...(c.placement === 'post' ? [`${b}.norm1`] : [`${b}.norm1post`, `${b}.norm2`])),
      around(`${b}.mlp`, 'mlp', i),
      ...linears('mlp', 'gate', 'up', 'down', 'router'),
      ...Array.from({ length: c.experts?.count ?? 0 }, (_, e) =>
        linears(`mlp.experts.${e}`, 'gate', 'up', 'down'),
      ).flat(),
      ...linears('mlp.shared', 'gate', 'up', 'down', 'router'),
      ...norms(i, c.placement === 'post' ? `${b}.norm2` : `${b}.norm2post`),
    ]
  }
  return [
    around('model', 'model', -1, D, ends),
    ...matrices('embed', -1, 'embed'),
    ...norms(-1, 'embed.norm'),
    ...Array.from({ length: c.layers }, (_, i) => block(i)).flat(),
    ...norms(-1, 'norm'),
    ...matrices('linear', -1, 'pooler', 'head.dense'),
    ...norms(-1, 'head.norm'),
    ...matrices('head', -1, ...(c.output === 'none' || c.output === 'pooled' ? [] : ['head'])),
  ]
}

const fusedOf = (file: NameAt | undefined, experts: number): Pick<Site, 'fused'> => {
  if (file?.fused) {
    const { hf: parameter, part, parts } = file.fused
    return { fused: { parameter, expert: file.expert ?? 0, experts, part, parts } }
  }
  const own = file?.name.endsWith('.mlp.router') ? (file.beside ?? file.hf) : undefined
  return own === undefined ? {} : { fused: { parameter: own, expert: 0, experts: 1, part: 0, parts: 1 } }
}

/** `model.norm.weight` → `model.norm`; a bare parameter has no module */
const moduleOf = (hf: string | undefined): { module?: string } =>
  hf?.endsWith('.weight') ? { module: hf.slice(0, -'.weight'.length) } : {}
