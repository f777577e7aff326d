import { type Tensor, tensor1d, tidy } from '@weftjs/tensor'
import type { Decoder } from '@weftjs/tensor/decoded'
import { addressOf, routines } from '@weftjs/tensor/heap'
import * as module from '../wasm/plain.generated.ts'
import * as encoding from '../wasm/plain-encode.generated.ts'
import { inRanges, placed, threaded } from './heap.ts'
import { bytesOf, decodeTo, eachStretch, loopKernel, roundEven, WGSL_GATHERED } from './loop.ts'
import { byteAt, FOUR_TIMES } from './shader.ts'

/** −1, 0 and 1 as digits 0, 1, 2 of base 3, five to a byte: digit i of the matrix, row by row, is worth 3^(i mod 5) in byte ⌊i/5⌋. */
const DIGITS = Float32Array.from({ length: 256 * 8 }, (_, at) =>
  at % 8 < 5 ? (Math.floor((at >> 3) / 3 ** (at % 8)) % 3) - 1 : 0,
)

/** int32 words of n digits */
export const tritWords = (n: number): number => Math.ceil(Math.ceil(n / 5) / 4)

const encodeKernel = loopKernel<{ n: number; block: number }>({
  name: 'TritEncode',
  dtype: 'int32',
  shape: ({ n }) => [tritWords(n)],
  run: ([x, scale], out, { n, block }) => {
    const bytes = bytesOf(out)
    for (let b = 0, i = 0; i < n; b++) {
      const s = scale![b]!
      for (const end = Math.min(n, i + block); i < end; i++) {
        const v = s > 0 ? Math.max(-1, Math.min(1, roundEven(Math.fround(x![i]! / s)))) : 0
        bytes[Math.floor(i / 5)]! += (v + 1) * 3 ** (i % 5)
      }
    }
  },
  module: encoding,
  heap: (_, [x, scale], out, { n, block }) =>
    inRanges(encoding, 'tritCodes', [n, 20], [addressOf(x!), addressOf(scale!), block], addressOf(out)),
  wgsl: {
    inputs: ['X', 'S'],
    numbers: ['n', 'block'],
    body: `
  var word = 0u;
  for (var j = 0; j < 4; j++) {
    var byte = 0u;
    var power = 1u;
    for (var d = 0; d < 5; d++) {
      let i = (index * 4 + j) * 5 + d;
      if (i >= uniforms.n) { break; }
      let s = S[i / uniforms.block];
      var v = 0.0;
      if (s > 0.0) { v = clamp(round(X[i] / s), -1.0, 1.0); }
      byte += u32(v + 1.0) * power;
      power *= 3u;
    }
    word |= byte << u32(8 * j);
  }
  result[index] = bitcast<i32>(word);`,
  },
})

/** clamp(round(x/scale), −1, 1) of n numbers, `block` of them sharing a scale → [⌈n/20⌉] int32 */
export const encodeTrits = (x: Tensor, scale: Tensor, block: number): Tensor =>
  encodeKernel([x, scale], { n: x.size, block })

const decodeKernel = loopKernel<{ n: number; block: number; width: number; gathered: number }>({
  name: 'TritDecode',
  dtype: 'float32',
  shape: ({ n, width, gathered }, [, , , rows]) => (gathered ? [rows!, width] : [n]),
  run: ([q, scale, digits, rows], out, { n, block, width, gathered }) => {
    const bytes = bytesOf(q!)
    const stretch = (from: number, end: number, at: number): void => {
      for (let i = from; i < end; i++)
        out[at++] = digits![8 * bytes[Math.floor(i / 5)]! + (i % 5)]! * scale![Math.floor(i / block)]!
    }
    eachStretch(rows!, { n, width, gathered }, stretch)
  },
  module,
  heap: ({ trits }, [q, scale, digits, rows], out, attrs) => {
    const [aq, as, ad] = [q!, scale!, digits!].map(addressOf) as [number, number, number]
    decodeTo(out, rows!, attrs, (from, to, at) => trits!(aq, ad, as, attrs.block, from, to, at))
  },
  wgsl: {
    inputs: ['Q', 'S', 'D', 'R'],
    numbers: ['n', 'block', 'width', 'gathered'],
    body: `${WGSL_GATHERED}
  let at = i / 5;
  let byte = (bitcast<u32>(Q[at / 4]) >> u32(8 * (at % 4))) & 255u;
  result[index] = D[i32(8u * byte) + i % 5] * S[i / uniforms.block];`,
  },
})

/** digit·scale of all numbers, flat, or of the rows that `rows` [m] int32 names → [m, width] */
export const decodeTrits = (
  q: Tensor,
  scale: Tensor,
  block: number,
  [height, width]: readonly [number, number],
  rows?: Tensor,
): Tensor =>
  tidy(() =>
    decodeKernel([q, scale, tensor1d(DIGITS), rows ?? tensor1d([0], 'int32')], {
      ...{ n: height * width, block, width, gathered: rows ? 1 : 0 },
    }),
  )

/** the same within a product */
export const tritDecoder = (q: Tensor, scale: Tensor, block: number): Decoder => ({
  heap: () => {
    if (!routines(module)) return undefined
    const [ad] = placed([DIGITS])
    return threaded(module, 'trits', [addressOf(q), ad!, addressOf(scale), block])
  },
  shader: () => ({
    name: `trits ${block}`,
    reads: { 'q: u32': q, scales: scale },
    code: () => `
fn weightAt(i: u32) -> f32 {
  let place = i % 5u;
  let power = select(select(select(select(81u, 27u, place == 3u), 9u, place == 2u), 3u, place == 1u), 1u, place == 0u);
  return (f32(${byteAt('q', '(i / 5u)')} / power % 3u) - 1.0) * scales[i / ${block}u];
}${FOUR_TIMES}`,
  }),
})
