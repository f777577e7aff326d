import { type Tensor, tensor1d, tidy } from '@weftjs/tensor'
import type { Decoder } from '@weftjs/tensor/decoded'
import { addressOf, routines } from '@weftjs/tensor/heap'
import * as module from '../wasm/plain.generated.ts'
import * as encoding from '../wasm/plain-encode.generated.ts'
import { inRanges, placed, threaded } from './heap.ts'
import { decodeTo, eachStretch, loopKernel, roundEven, WGSL_GATHERED } from './loop.ts'
import { bitsAt, FOUR_TIMES, WGSL_CODE } from './shader.ts'
import { streamAt, streamOf } from './stream.ts'

/**
 * Codes on an even grid: W[i] = (code[i] − zero[g])·scale[g], g = ⌊i/block⌋, i counting the numbers of W row by row.
 * Codes of 1, 2, 3, 4 or 8 bits are one stream without a gap, lowest bit first: code i is in bits [bits·i, bits·i + bits)
 * of the int32 words, so that 32 codes of 3 bits fill three words, as GPTQ's do.
 */
export interface Grid {
  readonly bits: number
  /** numbers that share a scale */
  readonly block: number
}
export interface Steps {
  /** [blocks] float32 */
  readonly scale: Tensor
  /** [blocks] float32, or one for all */
  readonly zero: Tensor | number
}

const zeroOf = (zero: Tensor | number): { zero: Tensor; each: 0 | 1 } =>
  typeof zero === 'number' ? { zero: tensor1d([zero]), each: 0 } : { zero, each: 1 }

const encodeKernel = loopKernel<{ n: number; bits: number; block: number; each: number; most: number }>({
  name: 'UniformEncode',
  dtype: 'int32',
  shape: ({ n, bits }) => [Math.ceil((n * bits) / 32)],
  run: ([x, scale, zero], out, { n, bits, block, each, most }) => {
    const push = streamOf(out, bits)
    for (let b = 0, i = 0; i < n; b++) {
      const [s, z] = [scale![b]!, zero![b * each]!]
      for (const end = Math.min(n, i + block); i < end; i++) {
        const v = s === 0 ? 0 : roundEven(Math.fround(x![i]! / s))
        push(Math.max(0, Math.min(most, v + z)))
      }
    }
  },
  module: encoding,
  heap: (_, [x, scale, zero], out, { n, bits, block, each, most }) => {
    const [ax, as, az] = [x!, scale!, zero!].map(addressOf) as [number, number, number]
    inRanges(encoding, 'uniformCodes', [n, 32], [ax, as, az, 4 * each, bits, most, block], addressOf(out))
  },
  wgsl: {
    inputs: ['X', 'S', 'Z'],
    numbers: ['n', 'bits', 'block', 'each', 'most'],
    body: `
  // the codes that have a bit in this word
  let first = index / uniforms.bits * 32 + index % uniforms.bits * 32 / uniforms.bits;
  let skipped = index % uniforms.bits * 32 % uniforms.bits;
  var word = 0u;
  for (var j = 0; j * uniforms.bits - skipped < 32; j++) {
    let i = first + j;
    if (i >= uniforms.n) { break; }
    let b = i / uniforms.block;
    let s = S[b];
    var v = 0.0;
    if (s != 0.0) { v = round(X[i] / s); }
    let code = u32(clamp(v + Z[b * uniforms.each], 0.0, f32(uniforms.most)));
    let shift = j * uniforms.bits - skipped;
    if (shift < 0) { word |= code >> u32(-shift); } else { word |= code << u32(shift); }
  }
  result[index] = bitcast<i32>(word);`,
  },
})

/** clamp(round(x/scale) + zero, 0, most), halves to the even one, as a stream of codes: x of n numbers → [⌈n·bits/32⌉] int32 */
export const encodeUniform = (
  x: Tensor,
  { scale, zero }: Steps,
  { bits, block }: Grid,
  most: number = 2 ** bits - 1,
): Tensor =>
  tidy(() => {
    const z = zeroOf(zero)
    return encodeKernel([x, scale, z.zero], { n: x.size, bits, block, each: z.each, most })
  })

const signKernel = loopKernel<{ n: number }>({
  name: 'SignEncode',
  dtype: 'int32',
  shape: ({ n }) => [Math.ceil(n / 32)],
  run: ([x], out, { n }) => {
    for (let i = 0; i < n; i++) if (x![i]! >= 0) out[i >>> 5]! |= 1 << (i & 31)
  },
  module: encoding,
  heap: (_, [x], out, { n }) => inRanges(encoding, 'signs', [n, 32], [addressOf(x!)], addressOf(out)),
  wgsl: {
    inputs: ['X'],
    numbers: ['n'],
    body: `
  var word = 0u;
  for (var j = 0; j < 32 && 32 * index + j < uniforms.n; j++) { word |= u32(X[32 * index + j] >= 0.0) << u32(j); }
  result[index] = bitcast<i32>(word);`,
  },
})
/** 1 where x is not negative, as a stream of bits: x of n numbers → [⌈n/32⌉] int32 */
export const encodeSigns = (x: Tensor): Tensor => signKernel([x], { n: x.size })

interface DecodeAttrs extends Grid {
  readonly [name: string]: number
  readonly n: number
  readonly each: number
  readonly width: number
  readonly gathered: number
}
const decodeKernel = loopKernel<DecodeAttrs>({
  name: 'UniformDecode',
  dtype: 'float32',
  shape: ({ n, width, gathered }, [, , , rows]) => (gathered ? [rows!, width] : [n]),
  run: ([q, scale, zero, rows], out, { n, bits, block, each, width, gathered }) => {
    const stretch = (from: number, end: number, at: number): void => {
      for (let b = Math.floor(from / block), i = from; i < end; b++) {
        const [s, z] = [scale![b]!, zero![b * each]!]
        for (const until = Math.min(end, (b + 1) * block); i < until; i++)
          out[at++] = Math.fround(streamAt(q!, bits, i) - z) * s
      }
    }
    eachStretch(rows!, { n, width, gathered }, stretch)
  },
  module,
  heap: ({ uniform }, [q, scale, zero, rows], out, attrs) => {
    const [aq, as, az] = [q!, scale!, zero!].map(addressOf) as [number, number, number]
    decodeTo(out, rows!, attrs, (from, to, at) =>
      uniform!(aq, attrs.bits, as, az, 4 * attrs.each, attrs.block, from, to, at),
    )
  },
  wgsl: {
    inputs: ['Q', 'S', 'Z', 'R'],
    numbers: ['n', 'bits', 'block', 'each', 'width', 'gathered'],
    body: `${WGSL_GATHERED}${WGSL_CODE}
  let b = i / uniforms.block;
  result[index] = (f32(code) - Z[b * uniforms.each]) * S[b];`,
  },
})

/** (code − zero)·scale of all numbers, flat, or of the rows that `rows` [m] int32 names → [m, width] */
export const decodeUniform = (
  q: Tensor,
  { scale, zero }: Steps,
  { bits, block }: Grid,
  [height, width]: readonly [number, number],
  rows?: Tensor,
): Tensor =>
  tidy(() => {
    const z = zeroOf(zero)
    const gathered = rows ? 1 : 0
    return decodeKernel([q, scale, z.zero, rows ?? tensor1d([0], 'int32')], {
      ...{ n: height * width, bits, block, each: z.each, width, gathered },
    })
  })

/** the same within a product: `codes` of zeros stand for them where these are packed, and take no room then */
export const uniformDecoder = (
  q: Tensor,
  { scale, zero }: { readonly scale: Tensor; readonly zero: Tensor | number | { readonly codes: Tensor } },
  { bits, block }: Grid,
): Decoder => ({
  heap: () => {
    const ours = routines(module)?.['uniform']
    if (!ours) return undefined
    const [aq, as] = [addressOf(q), addressOf(scale)]
    if (typeof zero !== 'number' && !('codes' in zero))
      return threaded(module, 'uniform', [aq, bits, as, addressOf(zero), 4, block])
    if (typeof zero === 'number') {
      const [az] = placed([Float32Array.of(zero)])
      return threaded(module, 'uniform', [aq, bits, as, az!, 0, block])
    }
    // zeros are codes of zero 0 and scale 1
    const [one, none, az] = placed([Float32Array.of(1), Float32Array.of(0)], scale.size)
    ours(addressOf(zero.codes), bits, one!, none!, 0, scale.size, 0, scale.size, az!)
    return threaded(module, 'uniform', [aq, bits, as, az!, 4, block])
  },
  shader: () => {
    const kind = typeof zero === 'number' ? `${zero}` : 'codes' in zero ? 'codes' : 'each'
    const less =
      typeof zero === 'number' ? `f32(${zero})` : 'codes' in zero ? `f32(${bitsAt('zeros', bits, 'b')})` : 'zeros[b]'
    // four codes of 1, 2, 4 or 8 bits lie in one word
    const four = Array.from({ length: 4 }, (_, j) => `extractBits(w, o + ${j * bits}u, ${bits}u)`).join(', ')
    const three = Array.from({ length: 4 }, (_, j) => bitsAt('q', bits, `(i + ${j}u)`)).join(', ')
    return {
      name: `uniform ${[bits, block, kind]}`,
      reads: {
        'q: u32': q,
        scales: scale,
        ...(typeof zero === 'number' ? {} : 'codes' in zero ? { 'zeros: u32': zero.codes } : { zeros: zero }),
      },
      code: () => `
fn zeroAt(b: u32) -> f32 { return ${less}; }
fn weightAt(i: u32) -> f32 { let b = i / ${block}u; return (f32(${bitsAt('q', bits, 'i')}) - zeroAt(b)) * scales[b]; }${
        block % 4
          ? FOUR_TIMES
          : `
fn weightsAt(i: u32) -> vec4f {
  ${bits === 3 ? '' : `let w = q[i / ${32 / bits}u]; let o = i % ${32 / bits}u * ${bits}u;`}
  let b = i / ${block}u;
  return (vec4f(vec4u(${bits === 3 ? three : four})) - vec4f(zeroAt(b))) * scales[b];
}`
      }`,
    }
  },
})
