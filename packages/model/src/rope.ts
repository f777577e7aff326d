import { gather, keep, reshape, type Tensor, tensor, tidy } from '@weftjs/tensor'
import type { Rope, TransformerConfig } from './config.ts'

/**
 * Inverse frequencies θ^(−2i/S), i < S/2, as a scaling rule changes them, and the factor of cos and sin.
 * Rules as in transformers: linear, dynamic (NTK), llama3, yarn.
 */
export const frequencies = (
  rope: Rope,
  headWidth: number,
  maxLength: number,
  length: number,
): { inv: Float64Array; factor: number } => {
  const half = headWidth / 2
  const inv = (theta: number): Float64Array =>
    Float64Array.from({ length: half }, (_, i) => theta ** ((-2 * i) / headWidth))
  const s = rope.scaling
  const type = s && (s['rope_type'] ?? s['type'])
  const n = (key: string, fallback?: number): number => {
    const value = s?.[key] ?? fallback
    if (typeof value !== 'number')
      throw new Error(`rope scaling '${type}': ${key} must be a number, found ${JSON.stringify(value)}`)
    return value
  }
  if (!s || type === undefined || type === 'default') return { inv: inv(rope.theta), factor: 1 }
  if (type === 'linear') return { inv: inv(rope.theta).map((f) => f / n('factor')), factor: 1 }
  if (type === 'dynamic') {
    const from = n('original_max_position_embeddings', maxLength)
    const grow = (n('factor') * Math.max(length, from)) / from - (n('factor') - 1)
    return { inv: inv(rope.theta * grow ** (headWidth / (headWidth - 2))), factor: 1 }
  }
  if (type === 'llama3') {
    const from = n('original_max_position_embeddings')
    const [low, high] = [from / n('low_freq_factor'), from / n('high_freq_factor')]
    return {
      factor: 1,
      inv: inv(rope.theta).map((f) => {
        const wave = (2 * Math.PI) / f
        if (wave < high) return f
        if (wave > low) return f / n('factor')
        const smooth = (from / wave - n('low_freq_factor')) / (n('high_freq_factor') - n('low_freq_factor'))
        return ((1 - smooth) * f) / n('factor') + smooth * f
      }),
    }
  }
  if (type === 'yarn') {
    // Peng et al., arXiv:2309.00071: interpolate long waves, keep short ones, ramp between
    const from = n('original_max_position_embeddings', maxLength)
    const at = (turns: number): number =>
      (headWidth * Math.log(from / (turns * 2 * Math.PI))) / (2 * Math.log(rope.theta))
    const truncate = s['truncate'] !== false
    const lo = Math.max(truncate ? Math.floor(at(n('beta_fast', 32))) : at(n('beta_fast', 32)), 0)
    const hi = Math.min(truncate ? Math.ceil(at(n('beta_slow', 1))) : at(n('beta_slow', 1)), headWidth - 1)
    const ramp = (i: number): number => Math.min(1, Math.max(0, (i - lo) / (hi === lo ? 0.001 : hi - lo)))
    const mscale = (scale: number, m: number): number => (scale <= 1 ? 1 : 0.1 * m * Math.log(scale) + 1)
    const both = typeof s['mscale'] === 'number' && typeof s['mscale_all_dim'] === 'number'
    const given = s['attention_factor']
    const factor =
      typeof given === 'number'
        ? given
        : both
          ? mscale(n('factor'), n('mscale')) / mscale(n('factor'), n('mscale_all_dim'))
          : mscale(n('factor'), 1)
    return { factor, inv: inv(rope.theta).map((f, i) => (f / n('factor')) * ramp(i) + f * (1 - ramp(i))) }
  }
  throw new Error(`rope scaling '${type}' is not supported; supported are default, linear, dynamic, llama3, yarn`)
}

interface Table {
  readonly length: number
  readonly cos: Tensor
  readonly sin: Tensor
}
const tables = new WeakMap<Rope, Map<string, Table>>()
const keyOf = (c: TransformerConfig): string => `${c.headWidth} ${c.maxLength}`

/** bytes of what is kept for a model's positions */
export const rotaryBytes = (c: TransformerConfig): number =>
  [c.rope, c.ropeLocal].reduce((n, rope) => {
    const held = rope && tables.get(rope)?.get(keyOf(c))
    return n + (held ? 4 * (held.cos.size + held.sin.size) : 0)
  }, 0)

/**
 * cos and sin [B or 1, 1, T, S/2] for positions [B, T] below `length`. The table is made in double precision on the
 * host (a GPU's sine is only good near zero) and kept for as long as the config is.
 */
export const rotaryTables = (
  c: TransformerConfig,
  rope: Rope,
  positions: Tensor,
  length: number,
): { cos: Tensor; sin: Tensor } => {
  // a network of other blocks or another head has the same
  const own = tables.get(rope) ?? new Map<string, Table>()
  tables.set(rope, own)
  const key = keyOf(c)
  const dynamic = (rope.scaling?.['rope_type'] ?? rope.scaling?.['type']) === 'dynamic'
  let table = own.get(key)
  if (!table || table.length < length || (dynamic && table.length !== length)) {
    const size = dynamic ? length : 2 ** Math.ceil(Math.log2(Math.max(length, 64)))
    const { inv, factor } = frequencies(rope, c.headWidth, c.maxLength, length)
    const half = inv.length
    const fill = (f: (x: number) => number): Tensor => {
      const values = new Float32Array(size * half)
      for (let t = 0; t < size; t++)
        for (let i = 0; i < half; i++) values[t * half + i] = f(t * Math.fround(inv[i]!)) * factor
      return tidy(() => keep(tensor(values, [size, half])))
    }
    table?.cos.dispose()
    table?.sin.dispose()
    table = { length: size, cos: fill(Math.cos), sin: fill(Math.sin) }
    own.set(key, table)
  }
  const [B, T] = positions.shape as [number, number]
  const flat = reshape(positions, [-1]) as never
  const pick = (t: Tensor): Tensor => reshape(gather(t, flat), [B, 1, T, c.headWidth / 2])
  return { cos: pick(table.cos), sin: pick(table.sin) }
}
