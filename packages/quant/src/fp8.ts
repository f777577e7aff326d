import type { Codec, Tensor } from '@weftjs/spec'
import { div, reshape, tidy } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import type { Decodable } from './kernels/decodable.ts'
import { decodeFloat8, encodeFloat8, FLOAT8, float8Decoder, type Tile, tileAbsmax, tilesOf } from './kernels/float8.ts'
import { codes, numbers } from './kernels/layout.ts'

export interface Fp8Options {
  /** 4 bits of exponent and 3 of mantissa, up to 448 and without infinity, or 5 and 2, up to 57344 */
  readonly format?: 'e4m3' | 'e5m2'
  /** what shares a scale: all of W, each row of it, or tiles of `tile` rows and columns */
  readonly per?: 'tensor' | 'row' | 'block'
  /** [rows, columns] */
  readonly tile?: readonly [number, number]
}
export interface Fp8Parts extends Record<string, Tensor> {
  /** 8-bit floats, four to an int32 word, row-major [⌈n/4⌉] */
  q: Tensor
  /** what they are multiplied by [⌈out/rows⌉, ⌈in/columns⌉]: [1, 1] for a tensor, [out, 1] by row */
  scale: Tensor
}

/** 8-bit floats times max|W|/448 (57344 for e5m2) of a row, a matrix or a tile: 8 + 32/in bits a weight  —  Micikevicius et al., arXiv:2209.05433 */
export const fp8 = ({ format = 'e4m3', per = 'row', tile = [128, 128] }: Fp8Options = {}): Codec<Fp8Parts> => {
  if (!Object.hasOwn(FLOAT8, format))
    throw new Error(`fp8: format must be 'e4m3' or 'e5m2', found ${JSON.stringify(format)}`)
  if (!['tensor', 'row', 'block'].includes(per))
    throw new Error(`fp8: per must be 'tensor', 'row' or 'block', found ${JSON.stringify(per)}`)
  if (tile.length !== 2 || !tile.every((n) => Number.isInteger(n) && n > 0 && n < 2 ** 31))
    throw new Error(`fp8: tile must be two whole numbers of at least 1, found ${JSON.stringify(tile)}`)
  const kind = FLOAT8[format]
  const tileOf = ([out, width]: readonly [number, number]): Tile => ({
    tall: per === 'tensor' ? Math.max(1, out) : per === 'row' ? 1 : tile[0],
    wide: per === 'block' ? tile[1] : Math.max(1, width),
  })
  const codec: Decodable<Fp8Parts> = {
    name: 'fp8',
    options: { format, per, ...(per === 'block' && { tile }) },
    encode: (w) =>
      tidy(() => {
        const scale = div(tileAbsmax(w, tileOf(w.shape)), kind.largest) // [⌈out/rows⌉, ⌈in/columns⌉]
        return { q: encodeFloat8(w, scale, kind, tileOf(w.shape)), scale }
      }),
    layout: (shape) => ({
      q: codes(8, shape[0] * shape[1]),
      scale: numbers(...tilesOf(shape, tileOf(shape))),
    }),
    decoder: ({ q, scale }, shape) => float8Decoder(q, scale, kind, tileOf(shape), shape[1]),
    decode: ({ q, scale }, shape) => reshape(decodeFloat8(q, scale, kind, tileOf(shape), shape), [...shape]),
    matmul: (x, p, shape) => decodedProduct(x, shape, codec.decoder(p, shape)),
    gradient: (dy, p, shape) => decodedProduct(dy, shape, codec.decoder(p, shape), true),
    rows: ({ q, scale }, shape, index) =>
      reshape(decodeFloat8(q, scale, kind, tileOf(shape), shape, reshape(index, [-1])), [...index.shape, shape[1]]),
  }
  return codec
}
