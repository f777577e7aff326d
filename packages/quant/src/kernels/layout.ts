import type { Codec, PartLayout } from '@weftjs/spec'

/** n codes of some bits, packed into int32 words */
export const codes = (bits: number, n: number): PartLayout => ({ dtype: 'int32', shape: [Math.ceil((bits * n) / 32)] })
export const numbers = (...shape: readonly number[]): PartLayout => ({ dtype: 'float32', shape })

/** Bits a number takes in this codec, scales included, in a matrix of this shape; undefined where its values decide. */
export const bitsPerWeight = (codec: Codec<any>, shape: readonly [number, number]): number | undefined => {
  const parts = codec.layout?.(shape)
  if (!parts) return undefined
  const sizes = Object.values(parts).map((p) => p.shape.reduce<number>((n, d) => n * (d ?? Number.NaN), 32))
  const bits = sizes.reduce((a, b) => a + b, 0) / (shape[0] * shape[1])
  return Number.isNaN(bits) ? undefined : bits
}
