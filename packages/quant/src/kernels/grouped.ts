import { reshape, type Tensor, tensor1d, tidy } from '@weftjs/tensor'
import { type Decoder, decodedProduct } from '@weftjs/tensor/decoded'
import { addressOf, routines } from '@weftjs/tensor/heap'
import * as module from '../wasm/grouped.generated.ts'
import { threaded } from './heap.ts'
import { decodeTo, eachStretch, loopKernel, WGSL_GATHERED } from './loop.ts'
import { bitsAt, FOUR_TIMES, WGSL_CODE } from './shader.ts'
import { streamAt } from './stream.ts'
import { decodeUniform, encodeUniform, uniformDecoder } from './uniform.ts'

/** Codes of a matrix, one stream from the lowest bit up, row by row; W = (code − zero)·scale. */
export interface Grouped {
  /** of a code: 1, 2, 3, 4 or 8 */
  readonly bits: number
  /** stretches of so many numbers share a scale and a zero; or where `columns`, numbers that are so many apart */
  readonly every: number
  readonly columns: boolean
  /** int32 [⌈bits·n/32⌉] */
  readonly q: Tensor
  /** float32, one for each group */
  readonly scale: Tensor
  readonly zero: Tensor
}
type Shape = readonly [number, number]

/** whole numbers in float32, each below 2^bits → a stream of codes in int32 words */
export const packCodes = (x: Tensor, bits: number): Tensor =>
  tidy(() => encodeUniform(x, { scale: tensor1d([1]), zero: 0 }, { bits, block: Math.max(1, x.size) }))

interface DecodeAttrs extends Record<string, number> {
  bits: number
  every: number
  n: number
  width: number
  gathered: number
}
const columnsKernel = loopKernel<DecodeAttrs>({
  name: 'ColumnsDecode',
  dtype: 'float32',
  shape: ({ n, width, gathered }, [, , , rows]) => (gathered ? [rows!, width] : [n]),
  run: ([q, scale, zero, rows], out, { bits, every, n, width, gathered }) => {
    const stretch = (from: number, end: number, at: number): void => {
      for (let i = from, c = from % every; i < end; i++, at++, c = c + 1 === every ? 0 : c + 1)
        out[at] = Math.fround(streamAt(q!, bits, i) - zero![c]!) * scale![c]!
    }
    eachStretch(rows!, { n, width, gathered }, stretch)
  },
  module,
  heap: ({ columns }, [q, scale, zero, rows], out, { bits, every, ...attrs }) => {
    const [aq, as, az] = [q!, scale!, zero!].map(addressOf) as [number, number, number]
    decodeTo(out, rows!, attrs, (from, to, at) => columns!(aq, bits, as, az, every, from, to, at))
  },
  wgsl: {
    inputs: ['Q', 'S', 'Z', 'R'],
    numbers: ['bits', 'every', 'n', 'width', 'gathered'],
    body: `${WGSL_GATHERED}${WGSL_CODE}
  let c = i % uniforms.every;
  result[index] = (f32(code) - Z[c]) * S[c];`,
  },
})

const decoded = (g: Grouped, shape: Shape, rows?: Tensor): Tensor => {
  const { q, scale, zero, bits, every } = g
  const [out, width] = shape
  if (!g.columns) return decodeUniform(q, { scale, zero }, { bits, block: every }, shape, rows)
  const attrs = { bits, every, n: out * width, width, gathered: rows ? 1 : 0 }
  return tidy(() => columnsKernel([q, scale, zero, rows ?? tensor1d([0], 'int32')], attrs))
}
/** → [out, in] */
export const decodeGrouped = (g: Grouped, shape: Shape): Tensor => reshape(decoded(g, shape), [...shape])
/** index [...] → [..., in] */
export const groupedRows = (g: Grouped, shape: Shape, index: Tensor): Tensor =>
  reshape(decoded(g, shape, reshape(index, [-1])), [...index.shape, shape[1]])

const columnsDecoder = ({ q, scale, zero, bits, every }: Grouped): Decoder => ({
  heap: () =>
    routines(module) && threaded(module, 'columns', [addressOf(q), bits, addressOf(scale), addressOf(zero), every]),
  shader: () => ({
    name: `columns ${[bits, every]}`,
    reads: { 'q: u32': q, scales: scale, zeros: zero },
    code: () => `
fn weightAt(i: u32) -> f32 { let c = i % ${every}u; return (f32(${bitsAt('q', bits, 'i')}) - zeros[c]) * scales[c]; }
${FOUR_TIMES}`,
  }),
})

/** x·Wᵀ, or with `back` x·W, decoding as it multiplies; undefined where decoding first is no slower */
export const groupedProduct = (x: Tensor, g: Grouped, shape: Shape, back = false): Tensor | undefined => {
  const { q, scale, zero, bits, every: block } = g
  return decodedProduct(
    x,
    shape,
    g.columns ? columnsDecoder(g) : uniformDecoder(q, { scale, zero }, { bits, block }),
    back,
  )
}
