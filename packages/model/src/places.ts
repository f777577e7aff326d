import type { TransformerConfig } from './config.ts'

/** Shape of a tensor of the network, and for a matrix what its rows and columns mean to the rest of the model. */
export interface Place {
  readonly shape: readonly number[]
  readonly axes?: readonly [output: string, input: string]
}
type Axis = readonly [units: number, name: string]

/** what one matrix of each layer maps: [out, in] */
const inBlock = (c: TransformerConfig, i: string): Readonly<Record<string, readonly [Axis, Axis]>> => {
  const residual: Axis = [c.width, 'residual']
  const mlp: Axis = [c.hidden, `mlp.${i}`]
  const q = c.heads * c.headWidth
  const kv = c.kvHeads * c.headWidth
  const { count = 0, shared = 0 } = c.experts ?? {}
  const together: Axis = [shared, `mlp.${i}.shared`]
  return {
    'attn.q': [[q, `qk.${i}`], residual],
    'attn.k': [[kv, `qk.${i}`], residual],
    'attn.v': [[kv, `vo.${i}`], residual],
    'attn.qkv': [[q + 2 * kv, `qkv.${i}`], residual],
    'attn.o': [residual, [q, `vo.${i}`]],
    'mlp.gate': [mlp, residual],
    'mlp.up': [mlp, residual],
    'mlp.down': [residual, mlp],
    'mlp.router': [[count, `experts.${i}`], residual],
    'mlp.shared.gate': [together, residual],
    'mlp.shared.up': [together, residual],
    'mlp.shared.down': [residual, together],
    'mlp.shared.router': [[1, `shared.${i}`], residual],
  }
}

/** a matrix of one expert */
const ofExpert = (c: TransformerConfig, i: string, rest: string): readonly [Axis, Axis] | undefined => {
  const [, e, part] = /^mlp\.experts\.(\d+)\.(gate|up|down)$/.exec(rest) ?? []
  if (e === undefined || !c.experts) return undefined
  const [residual, hidden]: Axis[] = [
    [c.width, 'residual'],
    [c.experts.hidden, `mlp.${i}.${e}`],
  ]
  return part === 'down' ? [residual!, hidden!] : [hidden!, residual!]
}

const outside = (c: TransformerConfig): Readonly<Record<string, readonly [Axis, Axis]>> => {
  const residual: Axis = [c.width, 'residual']
  // a tied head multiplies by the embedding, so what it reads is the residual stream's own basis
  const transformed: Axis = c.tied ? residual : [c.width, 'head']
  const read = c.output === 'masked' ? transformed : c.pooler ? ([c.width, 'pooler'] as const) : residual
  const { patch, channels } = c.image ?? { patch: 0, channels: 0 }
  return {
    embed:
      c.input === 'tokens' ? [[c.vocabulary, 'vocabulary'], residual] : [residual, [channels * patch ** 2, 'pixels']],
    'head.dense': [transformed, residual],
    pooler: [[c.width, 'pooler'], residual],
    head: [
      c.output === 'classes' || c.output === 'labels' ? [c.classes ?? 0, 'classes'] : [c.vocabulary, 'vocabulary'],
      read,
    ],
  }
}

/** What the config says about a tensor by its name here. @throws Error for a name that no transformer has */
export const placeOf = (c: TransformerConfig, name: string): Place => {
  const [, layer, rest = name] = /^blocks\.(\d+)\.(.+)$/.exec(name) ?? []
  const matrices = layer === undefined ? outside(c) : inBlock(c, layer)
  const matrix = matrices[rest] ?? (layer === undefined ? undefined : ofExpert(c, layer, rest))
  if (matrix) {
    const [[out, rows], [input, columns]] = matrix
    return { shape: [out, input], axes: [rows, columns] }
  }
  const ofBias = rest.endsWith('.bias') ? matrices[rest.slice(0, -5)] : undefined
  if (ofBias) return { shape: [ofBias[0][0]] }
  if (rest === 'positions') return { shape: [c.maxLength + (c.positionOffset ?? 0), c.width] }
  if (rest === 'types') return { shape: [c.types ?? 0, c.width] }
  if (/^attn\.[qk]norm$/.test(rest)) return { shape: [c.headWidth] }
  if (rest === 'cls' || /^(embed\.|head\.)?norm(\.bias)?$|^norm[12](post)?(\.bias)?$/.test(rest))
    return { shape: [c.width] }
  throw new Error(`${name}: no such tensor in a transformer; see docs/sites.md for the names`)
}

/** is this a matrix to multiply by (a weight), or a vector or table (a vector)? */
export const isMatrix = (c: TransformerConfig, name: string): boolean => placeOf(c, name).axes !== undefined
