import type { Config, Network } from '@weftjs/spec'

/** What a scale of inputs can be folded into, as a model's config says it. */
export interface Architecture {
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly headWidth: number
  /** added to the stored scale of a norm: 1 in Gemma */
  readonly normOffset: number
  readonly placement: 'pre' | 'post' | 'sandwich'
  readonly activation: string
  readonly gated: boolean
  readonly experts?: { readonly layers: readonly boolean[] }
}
/** Matrices that read one input, and what makes it. */
export interface Place {
  readonly readers: readonly string[]
  /** a norm, or the matrix whose last rows come through unchanged but for a sum over places */
  readonly from?: { readonly norm: string } | { readonly linear: string }
  /** each head of `from` is read so many times over, side by side */
  readonly repeat: number
  readonly headWidth: number
  /** why nothing takes the scale */
  readonly why?: string
}

/** @throws Error for a network that is no transformer of ours */
export const architectureOf = ({ config }: Network<object>): Architecture => {
  const c = config as Config
  const missing = ['layers', 'heads', 'kvHeads', 'headWidth', 'normOffset', 'placement', 'gated'].find((k) => !(k in c))
  if (missing !== undefined)
    throw new Error(
      `awqScale: the network's config has no '${missing}'; it takes a transformer as loadNetwork gives it`,
    )
  return c as unknown as Architecture
}

/** the places of block i: what reads norm 1, the attention's values, norm 2, and the MLP's hidden units */
export const placesOf = ({ weights, vectors }: Network<object>, c: Architecture, i: number): readonly Place[] => {
  const b = `blocks.${i}`
  const there = (...names: readonly string[]): string[] => names.map((n) => `${b}.${n}`).filter((n) => n in weights)
  const one = { repeat: 1, headWidth: 1 }
  const norm = (n: 1 | 2): Pick<Place, 'from' | 'why'> =>
    c.placement === 'post'
      ? { why: `what it reads goes on beside the block too` }
      : `${b}.norm${n}` in vectors
        ? { from: { norm: `${b}.norm${n}` } }
        : { why: `there is no norm before it` }
  const values = there('attn.v', 'attn.qkv')[0]
  const attention: Place[] = [
    { readers: there('attn.q', 'attn.k', 'attn.v', 'attn.qkv'), ...norm(1), ...one },
    {
      readers: there('attn.o'),
      ...(values ? { from: { linear: values } } : { why: 'there are no values before it' }),
      repeat: c.heads / c.kvHeads,
      headWidth: c.headWidth,
    },
  ]
  if (c.experts?.layers[i]) {
    const names = Object.keys(weights).filter((n) => n.startsWith(`${b}.mlp.`))
    return [...attention, { readers: names, why: 'each expert reads what it is sent', ...one }]
  }
  const up = there('mlp.up')[0]
  const passes = c.gated || c.activation === 'relu'
  const down = up && passes ? { from: { linear: up } } : { why: `${c.activation} comes before it` }
  return [
    ...attention,
    { readers: there('mlp.gate', 'mlp.up'), ...norm(2), ...one },
    { readers: there('mlp.down'), ...down, ...one },
  ].filter((p) => p.readers.length)
}
