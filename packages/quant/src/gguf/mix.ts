import type { GgufSizes } from './config-out.ts'
import { type GgmlType, ggmlTypes } from './types.ts'

/** A way of choosing a type for each tensor, by llama.cpp's name for it. */
export type GgufMix =
  | 'F32'
  | 'F16'
  | 'BF16'
  | 'Q4_0'
  | 'Q4_1'
  | 'Q5_0'
  | 'Q5_1'
  | 'Q8_0'
  | 'Q2_K'
  | 'Q2_K_S'
  | 'Q3_K_S'
  | 'Q3_K_M'
  | 'Q3_K_L'
  | 'Q4_K_S'
  | 'Q4_K_M'
  | 'Q5_K_S'
  | 'Q5_K_M'
  | 'Q6_K'
  | 'IQ4_NL'

/** number in `general.file_type`, and the type of what no rule gives more bits or fewer */
const MIXES: Readonly<Record<GgufMix, readonly [number, GgmlType]>> = {
  F32: [0, 'F32'],
  F16: [1, 'F16'],
  BF16: [32, 'BF16'],
  Q4_0: [2, 'Q4_0'],
  Q4_1: [3, 'Q4_1'],
  Q5_0: [8, 'Q5_0'],
  Q5_1: [9, 'Q5_1'],
  Q8_0: [7, 'Q8_0'],
  Q2_K: [10, 'Q2_K'],
  Q2_K_S: [21, 'Q2_K'],
  Q3_K_S: [11, 'Q3_K'],
  Q3_K_M: [12, 'Q3_K'],
  Q3_K_L: [13, 'Q3_K'],
  Q4_K_S: [14, 'Q4_K'],
  Q4_K_M: [15, 'Q4_K'],
  Q5_K_S: [16, 'Q5_K'],
  Q5_K_M: [17, 'Q5_K'],
  Q6_K: [18, 'Q6_K'],
  IQ4_NL: [25, 'IQ4_NL'],
}

/** the mixes that can be written; `Q3_K`, `Q4_K` and `Q5_K` stand for their medium ones, as in llama.cpp */
export const ggufMixes: readonly GgufMix[] = Object.keys(MIXES) as GgufMix[]

const SHORT: Readonly<Record<string, GgufMix>> = { Q3_K: 'Q3_K_M', Q4_K: 'Q4_K_M', Q5_K: 'Q5_K_M' }
/** @throws Error for a name that is no mix's, with those that are */
export const ggufMix = (name: string): GgufMix => {
  const upper = name.toUpperCase()
  const found = SHORT[upper] ?? ggufMixes.find((m) => m === upper)
  if (found) return found
  throw new Error(`there is no GGUF mix '${name}'; there are ${ggufMixes.join(', ')}`)
}

/** `general.file_type` */
export const fileTypeOf = (mix: GgufMix): number => MIXES[mix][0]

/** the mix that a file is best called whose matrices are mostly of this type */
export const mixLike = (type: GgmlType): GgufMix | undefined =>
  SHORT[type] ?? ggufMixes.find((mix) => MIXES[mix][1] === type)

export interface MixContext extends GgufSizes {
  /** the embedding is the head too */
  readonly tied: boolean
  /** what columns are worth is known */
  readonly importance?: boolean
}

/** where a row is no whole number of blocks of 256: the type of blocks of 32 that llama.cpp takes in its place */
const FALLBACK: Partial<Record<GgmlType, GgmlType>> = {
  Q2_K: 'Q4_0',
  Q3_K: 'Q4_0',
  Q4_K: 'Q5_0',
  Q5_K: 'Q5_1',
  Q6_K: 'Q8_0',
}
const fits = (type: GgmlType, width: number): boolean => width % ggmlTypes[type].size === 0

/** what fits rows of this width and comes nearest */
export const fitting = (type: GgmlType, width: number): GgmlType => {
  if (fits(type, width)) return type
  const other = FALLBACK[type]
  return other && fits(other, width) ? other : 'F16'
}

/** the first and the last eighth of the layers, and every third between */
const needsMore = (i: number, n: number): boolean => {
  const eighth = Math.floor(n / 8)
  return i < eighth || i >= Math.floor((7 * n) / 8) || (i - eighth) % 3 === 2
}

/**
 * The type of a tensor in a mix, as llama.cpp's quantize chooses it, with an importance matrix or without: more bits for
 * values and the way down of some layers, and for the output; vectors stay float32, and where a row is no whole number of
 * blocks a type of smaller ones is taken. ggml's names.
 */
export const typeIn = (mix: GgufMix, name: string, shape: readonly number[], c: MixContext): GgmlType => {
  const base: GgmlType = MIXES[mix][1]
  if (shape.length < 2 || !name.endsWith('.weight') || /_norm\.weight$|\.ffn_gate_inp/.test(name)) return 'F32'
  if (ggmlTypes[base].size === 1) return base
  const width = shape.at(-1)!
  if (name === 'output.weight' || (name === 'token_embd.weight' && c.tied))
    return fitting(!fits(base, width) || base === 'Q8_0' ? 'Q8_0' : 'Q6_K', width)
  const [, layer, part] = /^blk\.(\d+)\.(\w+)\./.exec(name) ?? []
  return fitting(partType(mix, base, part ?? '', Number(layer), c), width)
}

const partType = (
  mix: GgufMix,
  base: GgmlType,
  part: string,
  i: number,
  { layers: n, heads, kvHeads, family, importance, experts }: MixContext,
): GgmlType => {
  const shared = heads / kvHeads >= 4
  const more = needsMore(i, n)
  const eighth = Math.floor(n / 8)
  const eight = experts?.count === 8
  if (eight && (part === 'attn_v' || part === 'attn_k')) return 'Q8_0'
  if (part === 'attn_v') {
    const type: GgmlType =
      mix === 'Q2_K'
        ? shared
          ? 'Q4_K'
          : 'Q3_K'
        : mix === 'Q2_K_S' && shared
          ? 'Q4_K'
          : mix === 'Q3_K_M'
            ? i < 2
              ? 'Q5_K'
              : 'Q4_K'
            : mix === 'Q3_K_L'
              ? 'Q5_K'
              : (mix === 'Q4_K_M' || mix === 'Q5_K_M') && more
                ? 'Q6_K'
                : mix === 'Q4_K_S' && i < 4
                  ? 'Q5_K'
                  : mix === 'IQ4_NL' && shared
                    ? 'Q5_K'
                    : base
    // Llama 70B, whose eight heads share these
    return family.arch === 'llama' && n === 80 && (type === 'Q3_K' || type === 'Q4_K') ? 'Q5_K' : type
  }
  if (part.startsWith('ffn_down')) {
    if (mix === 'Q2_K') return 'Q3_K'
    if (mix === 'Q2_K_S') return i < eighth ? 'Q4_K' : base
    if (mix === 'Q3_K_M') return i < Math.floor(n / 16) ? 'Q5_K' : 'Q4_K'
    if (mix === 'Q3_K_L') return 'Q5_K'
    if (mix === 'Q4_K_M' || mix === 'Q5_K_M') return more ? 'Q6_K' : base
    if (mix === 'Q4_K_S' || (mix === 'IQ4_NL' && !importance)) return i < eighth ? 'Q5_K' : base
    if (importance && i < eighth && mix === 'Q4_0') return 'Q4_1'
    if (importance && i < eighth && mix === 'Q5_0') return 'Q5_1'
  }
  if (part === 'attn_output') {
    if (eight && /^(Q2_K|Q3_K_[SM]|Q4_K_[SM]|IQ4_NL)$/.test(mix)) return 'Q5_K'
    if (mix === 'Q2_K') return 'Q3_K'
    if (mix === 'Q3_K_M') return 'Q4_K'
    if (mix === 'Q3_K_L') return 'Q5_K'
  }
  return base
}
