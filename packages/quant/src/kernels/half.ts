import type { Codec, Tensor } from '@weftjs/spec'
import { reshape, type Tensor1D, tensor1d, tidy } from '@weftjs/tensor'
import { type Decoder, decodedProduct } from '@weftjs/tensor/decoded'
import { addressOf, routines } from '@weftjs/tensor/heap'
import * as module from '../wasm/decode.generated.ts'
import * as encoding from '../wasm/plain-encode.generated.ts'
import { inRanges } from './heap.ts'
import { codes } from './layout.ts'
import { decodeTo, eachStretch, loopKernel, type Values, WGSL_GATHERED } from './loop.ts'

/** A 16-bit float: its bits from a float32, and back. */
interface Half {
  /** by plain arithmetic */
  readonly to: (v: number) => number
  readonly from: (bits: number) => number
  /** the same in WGSL: of `v: f32`, and of `h: u32` */
  readonly wgsl: { readonly to: string; readonly from: string }
  /** our routine on the wasm heap */
  readonly routine: 'bfloat' | 'half'
}
export interface HalfParts extends Record<string, Tensor> {
  /** bits of the numbers, two to an int32 word, row-major [⌈n/2⌉] */
  q: Tensor
}

const float = new Float32Array(1)
const word = new Uint32Array(float.buffer)
const bitsOf = (v: number): number => {
  float[0] = v
  return word[0]!
}
const floatOf = (bits: number): number => {
  word[0] = bits
  return float[0]!
}
/** the upper bits, rounded to nearest, halves to even */
const rounded = (u: number, drop: number): number => (u + (1 << (drop - 1)) - 1 + ((u >>> drop) & 1)) >>> drop
const LARGEST = { bf16: floatOf(0x7f7f0000), f16: 65504 } as const
const clamped = (v: number, most: number): number => Math.max(-most, Math.min(most, v))

export const BF16: Half = {
  to: (v) => rounded(bitsOf(clamped(v, LARGEST.bf16)), 16),
  from: (bits) => floatOf(bits << 16),
  wgsl: {
    to: `let u = bitcast<u32>(clamp(v, -${LARGEST.bf16}, ${LARGEST.bf16}));
  return (u + 0x7fffu + ((u >> 16u) & 1u)) >> 16u;`,
    from: 'return bitcast<f32>(h << 16u);',
  },
  routine: 'bfloat',
}

const BIAS = 112 << 10 // between the exponents of float32 and float16
export const F16: Half = {
  to: (v) => {
    const u = bitsOf(Math.abs(clamped(v, LARGEST.f16)))
    const sign = (bitsOf(v) >>> 16) & 0x8000
    // below 2⁻¹⁴ steps are 2⁻²⁴; float32 rounds to that when 1/2 is added
    const small = bitsOf(Math.fround(floatOf(u) + 0.5)) - bitsOf(0.5)
    return sign | (u < 0x38800000 ? small : rounded(u, 13) - BIAS)
  },
  from: (bits) => {
    const [e, m] = [(bits >>> 10) & 31, bits & 1023]
    const size =
      e === 0 ? m * 2 ** -24 : e === 31 ? (m ? Number.NaN : Number.POSITIVE_INFINITY) : (1 + m / 1024) * 2 ** (e - 15)
    return bits & 0x8000 ? -size : size
  },
  wgsl: {
    to: `let u = bitcast<u32>(min(abs(v), 65504.0));
  let small = u32(round(min(abs(v), 1.0) * 16777216.0));
  let large = ((u + 0xfffu + ((u >> 13u) & 1u)) >> 13u) - ${BIAS}u;
  return select(large, small, u < 0x38800000u) | ((bitcast<u32>(v) >> 16u) & 0x8000u);`,
    from: `let rest = h & 0x7fffu;
  let large = bitcast<f32>((rest << 13u) + select(0x38000000u, 0x70000000u, rest >= 0x7c00u));
  let size = select(large, f32(rest) * 5.9604644775390625e-8, rest < 0x400u);
  return select(size, -size, h > 0x7fffu);`,
  },
  routine: 'half',
}

const wordsOf = (t: Values): Uint16Array => new Uint16Array(t.buffer, t.byteOffset, 2 * t.length)

/** a matrix as 16-bit floats */
export const halfCodec = (name: 'bf16' | 'f16', { to, from, wgsl, routine }: Half): Codec<HalfParts> => {
  const encode = loopKernel<{ n: number }>({
    name: `Encode ${name}`,
    dtype: 'int32',
    shape: ({ n }) => [Math.ceil(n / 2)],
    run: ([x], out, { n }) => {
      const bits = wordsOf(out)
      for (let i = 0; i < n; i++) bits[i] = to(x![i]!)
    },
    module: encoding,
    heap: (_, [x], out, { n }) => inRanges(encoding, `${routine}Codes`, [n, 2], [addressOf(x!)], addressOf(out)),
    wgsl: {
      inputs: ['X'],
      numbers: ['n'],
      head: `fn halfOf(v: f32) -> u32 { ${wgsl.to} }`,
      body: `
  var pair = halfOf(X[2 * index]);
  if (2 * index + 1 < uniforms.n) { pair |= halfOf(X[2 * index + 1]) << 16u; }
  result[index] = bitcast<i32>(pair);`,
    },
  })
  const decode = loopKernel<{ n: number; width: number; gathered: number }>({
    name: `Decode ${name}`,
    dtype: 'float32',
    shape: ({ n, width, gathered }, [, rows]) => (gathered ? [rows!, width] : [n]),
    run: ([q, rows], out, { n, width, gathered }) => {
      const bits = wordsOf(q!)
      eachStretch(rows!, { n, width, gathered }, (start, end, at) => {
        for (let i = start; i < end; i++) out[at++] = from(bits[i]!)
      })
    },
    heap: (ours, [q, rows], out, attrs) => {
      const aq = addressOf(q!)
      decodeTo(out, rows!, attrs, (first, last, at) => ours[routine]!(aq, first, last, at))
    },
    wgsl: {
      inputs: ['Q', 'R'],
      numbers: ['n', 'width', 'gathered'],
      head: `fn floatOf(h: u32) -> f32 { ${wgsl.from} }`,
      body: `${WGSL_GATHERED}
  result[index] = floatOf((bitcast<u32>(Q[i / 2]) >> u32(16 * (i % 2))) & 0xffffu);`,
    },
  })
  const all = (q: Tensor, n: number): Tensor =>
    tidy(() => decode([q, tensor1d([0], 'int32')], { n, width: 1, gathered: 0 }))
  const decoder = ({ q }: HalfParts): Decoder => ({
    heap: () => {
      const ours = routines(module)?.[routine]
      const aq = addressOf(q)
      return ours && ((first, last, at) => ours(aq, first, last, at))
    },
    shader: () => ({
      name,
      reads: { 'q: u32': q },
      code: () => `
fn floatOf(h: u32) -> f32 { ${wgsl.from} }
fn weightAt(i: u32) -> f32 { return floatOf((q[i / 2u] >> (16u * (i % 2u))) & 0xffffu); }
fn weightsAt(i: u32) -> vec4f {
  let a = q[i / 2u];
  let b = q[i / 2u + 1u];
  return vec4f(floatOf(a & 0xffffu), floatOf(a >> 16u), floatOf(b & 0xffffu), floatOf(b >> 16u));
}`,
    }),
  })
  return {
    name,
    encode: (w) => ({ q: encode([w], { n: w.size }) }),
    layout: ([out, input]) => ({ q: codes(16, out * input) }),
    decode: ({ q }, shape) => reshape(all(q, shape[0] * shape[1]), [...shape]),
    matmul: (x, p, shape) => decodedProduct(x, shape, decoder(p)),
    gradient: (dy, p, shape) => decodedProduct(dy, shape, decoder(p), true),
    rows: ({ q }, [out, width], index) =>
      reshape(decode([q, reshape(index, [-1]) as Tensor1D], { n: out * width, width, gathered: 1 }), [
        ...index.shape,
        width,
      ]),
  }
}
