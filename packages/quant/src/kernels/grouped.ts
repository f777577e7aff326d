import { reshape, type Tensor, tensor1d, tidy } from '@weftjs/tensor'
import { type Decode, type Decoder, decodedProduct } from '@weftjs/tensor/decoded'
import { addressOf, inParts, routines } from '@weftjs/tensor/heap'
import * as module from '../wasm/grouped.generated.ts'
import { bytesOf, checkRow, decodeTo, loopKernel, type Values } from './loop.ts'
import { FOUR_TIMES } from './shader.ts'

/** Which numbers of the flattened matrix share a scale and a zero point. */
export interface Grouping {
  /** of a code: 1, 2, 3, 4 or 8 */
  readonly bits: number
  /** stretches of so many numbers share; or where `columns`, numbers so many apart */
  readonly every: number
  readonly columns: boolean
}
/** Codes of a matrix, one stream from the lowest bit up, row by row; W = (code − zero)·scale. */
export interface Grouped extends Grouping {
  /** int32 [⌈bits·n/32⌉] */
  readonly q: Tensor
  /** float32, one for each group */
  readonly scale: Tensor
  readonly zero: Tensor
}
type Shape = readonly [number, number]

/** code i of a stream */
export const codeAt = (bytes: Uint8Array, bits: number, i: number): number => {
  const bit = bits * i
  const at = bit >>> 3
  return ((bytes[at]! | (bytes[at + 1]! << 8)) >>> (bit & 7)) & ((1 << bits) - 1)
}
/** puts code i into a stream of zeros */
export const putCode = (bytes: Uint8Array, bits: number, i: number, code: number): void => {
  const bit = bits * i
  const at = bit >>> 3
  const w = code << (bit & 7)
  bytes[at]! |= w & 255
  if (w > 255) bytes[at + 1]! |= w >>> 8
}

const packKernel = loopKernel<{ bits: number; n: number }>({
  name: 'PackCodes',
  dtype: 'int32',
  shape: ({ bits, n }) => [Math.ceil((bits * n) / 32)],
  run: ([x], out, { bits, n }) => {
    const bytes = bytesOf(out)
    for (let i = 0; i < n; i++) putCode(bytes, bits, i, x![i]!)
  },
  wgsl: {
    inputs: ['X'],
    numbers: ['bits', 'n'],
    body: `
  var word = 0u;
  let end = min((32 * index + 31) / uniforms.bits, uniforms.n - 1);
  for (var i = 32 * index / uniforms.bits; i <= end; i++) {
    let at = uniforms.bits * i - 32 * index;
    let code = u32(X[i]);
    if (at < 0) { word |= code >> u32(-at); } else { word |= code << u32(at); }
  }
  result[index] = bitcast<i32>(word);`,
  },
})
/** whole numbers in float32, each below 2^bits → a stream of codes in int32 words */
export const packCodes = (x: Tensor, bits: number): Tensor => packKernel([x], { bits, n: x.size })

const CODE = `
  let bit = u32(uniforms.bits * i);
  var code = bitcast<u32>(Q[bit / 32u]) >> (bit % 32u);
  if (bit % 32u + u32(uniforms.bits) > 32u) { code |= bitcast<u32>(Q[bit / 32u + 1u]) << (32u - bit % 32u); }
  code &= (1u << u32(uniforms.bits)) - 1u;`

interface DecodeAttrs extends Record<string, number> {
  bits: number
  every: number
  columns: number
  n: number
  width: number
  gathered: number
}
const decodeKernel = loopKernel<DecodeAttrs>({
  name: 'GroupedDecode',
  dtype: 'float32',
  shape: ({ n, width, gathered }, [, , , rows]) => (gathered ? [rows!, width] : [n]),
  run: ([q, scale, zero, rows], out, { bits, every, columns, n, width, gathered }) => {
    const bytes = bytesOf(q!)
    const stretch = (from: number, end: number, at: number): void => {
      for (let i = from; i < end; i++, at++) {
        const g = columns ? i % every : Math.floor(i / every)
        out[at] = Math.fround(codeAt(bytes, bits, i) - zero![g]!) * scale![g]!
      }
    }
    if (gathered)
      rows!.forEach((row, at) => {
        checkRow(row, n / width)
        stretch(row * width, (row + 1) * width, at * width)
      })
    else stretch(0, n, 0)
  },
  heap: (_, [q, scale, zero, rows], out, { bits, every, columns, ...attrs }) => {
    const routine = routines(module)![columns ? 'columns' : 'blocks']!
    const [aq, as, az] = [q!, scale!, zero!].map(addressOf) as [number, number, number]
    decodeTo(out, rows!, attrs, (from, to, at) => routine(aq, bits, as, az, every, from, to, at))
  },
  wgsl: {
    inputs: ['Q', 'S', 'Z', 'R'],
    numbers: ['bits', 'every', 'columns', 'n', 'width', 'gathered'],
    body: `
  var i = index;
  if (uniforms.gathered == 1) { i = R[index / uniforms.width] * uniforms.width + index % uniforms.width; }
  ${CODE}
  var g = i / uniforms.every;
  if (uniforms.columns == 1) { g = i % uniforms.every; }
  result[index] = (f32(code) - Z[g]) * S[g];`,
  },
})

const decoded = (
  { q, scale, zero, bits, every, columns }: Grouped,
  [out, width]: Shape,
  rows: Tensor | undefined,
): Tensor =>
  tidy(() =>
    decodeKernel([q, scale, zero, rows ?? tensor1d([0], 'int32')], {
      ...{ bits, every, columns: columns ? 1 : 0, n: out * width, width: rows ? width : 1, gathered: rows ? 1 : 0 },
    }),
  )
/** → [out, in] */
export const decodeGrouped = (g: Grouped, shape: Shape): Tensor => reshape(decoded(g, shape, undefined), [...shape])
/** index [...] → [..., in] */
export const groupedRows = (g: Grouped, shape: Shape, index: Tensor): Tensor =>
  reshape(decoded(g, shape, reshape(index, [-1])), [...index.shape, shape[1]])

/** numbers that are worth a thread: about 0.03 ms */
const PART = 2 ** 17

const decoder = ({ q, scale, zero, bits, every, columns }: Grouped): Decoder => ({
  heap: () => {
    if (!routines(module)) return undefined
    const [aq, as, az] = [addressOf(q), addressOf(scale), addressOf(zero)]
    const decode: Decode = (from, to, at) =>
      inParts(module, columns ? 'columns' : 'blocks', { n: Math.ceil((to - from) / 8), least: PART / 8 }, (k, n) => {
        const start = from + 8 * k
        return [aq, bits, as, az, every, start, Math.min(start + 8 * n, to), at + 32 * k]
      })
    return decode
  },
  shader: () => {
    const mask = `${2 ** bits - 1}u`
    const code =
      bits === 3
        ? `let bit = 3u * i; let at = bit % 32u;
  var c = q[bit / 32u] >> at;
  if (at > 29u) { c |= q[bit / 32u + 1u] << (32u - at); }
  let code = f32(c & 7u);`
        : `let code = f32((q[i / ${32 / bits}u] >> (${bits}u * (i % ${32 / bits}u))) & ${mask});`
    const group = columns ? `i % ${every}u` : `i / ${every}u`
    const fours = bits !== 3 && !columns && every % 4 === 0
    return {
      name: `grouped ${[bits, every, columns]}`,
      reads: { 'q: u32': q, scales: scale, zeros: zero },
      code: () => `
fn weightAt(i: u32) -> f32 {
  ${code}
  return (code - zeros[${group}]) * scales[${group}];
}${
        fours
          ? `
fn weightsAt(i: u32) -> vec4f {
  let w = q[i / ${32 / bits}u] >> (${bits}u * (i % ${32 / bits}u));
  let c = vec4f(vec4u(w, w >> ${bits}u, w >> ${2 * bits}u, w >> ${3 * bits}u) & vec4u(${mask}));
  return (c - zeros[${group}]) * scales[${group}];
}`
          : FOUR_TIMES
      }`,
    }
  },
})

/** x·Wᵀ, or with `back` x·W, decoding as it multiplies; undefined where decoding first is no slower */
export const groupedProduct = (x: Tensor, g: Grouped, shape: Shape, back = false): Tensor | undefined =>
  decodedProduct(x, shape, decoder(g), back)

/** the bytes of packed words, in memory of their own */
export const streamOf = (words: Values): Uint8Array => bytesOf(words).slice()
