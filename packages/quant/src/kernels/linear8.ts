import { type Tensor, tensor1d, tidy } from '@weftjs/tensor'
import { addressOf } from '@weftjs/tensor/heap'
import * as encoding from '../wasm/plain-encode.generated.ts'
import { inRanges } from './heap.ts'
import { bytesOf, decodeTo, eachStretch, loopKernel, roundEven, WGSL_GATHERED } from './loop.ts'

const encodeKernel = loopKernel<{ n: number; width: number }>({
  name: 'Linear8Encode',
  dtype: 'int32',
  shape: ({ n }) => [Math.ceil(n / 4)],
  run: ([x, scale], out, { n, width }) => {
    const bytes = bytesOf(out)
    for (let r = 0, i = 0; i < n; r++) {
      // rounded twice, as torch computes 127/s
      const factor = scale![r]! > 0 ? Math.fround(127 * Math.fround(1 / scale![r]!)) : 0
      for (const end = i + width; i < end; i++)
        bytes[i] = Math.max(-127, Math.min(127, roundEven(Math.fround(x![i]! * factor))))
    }
  },
  module: encoding,
  heap: (_, [x, scale], out, { n, width }) =>
    inRanges(encoding, 'linearCodes', [n, 4], [addressOf(x!), addressOf(scale!), width], addressOf(out)),
  wgsl: {
    inputs: ['X', 'S'],
    numbers: ['n', 'width'],
    body: `
  var word = 0u;
  for (var j = 0; j < 4; j++) {
    let i = index * 4 + j;
    if (i >= uniforms.n) { break; }
    let s = S[i / uniforms.width];
    var v = 0.0;
    if (s > 0.0) { v = clamp(round(X[i] * (127.0 / s)), -127.0, 127.0); }
    word |= (bitcast<u32>(i32(v)) & 255u) << u32(8 * j);
  }
  result[index] = bitcast<i32>(word);`,
  },
})

export const THROUGH_127: number = Math.fround(1 / 127)

const decodeKernel = loopKernel<{ n: number; block: number; width: number; gathered: number }>({
  name: 'Linear8Decode',
  dtype: 'float32',
  shape: ({ n, width, gathered }, [, , rows]) => (gathered ? [rows!, width] : [n]),
  run: ([q, scale, rows], out, { n, block, width, gathered }) => {
    const codes = new Int8Array(q!.buffer, q!.byteOffset, q!.byteLength)
    const stretch = (from: number, end: number, at: number): void => {
      for (let b = Math.floor(from / block), i = from; i < end; b++) {
        const s = scale![b]!
        for (const until = Math.min(end, (b + 1) * block); i < until; i++)
          out[at++] = Math.fround(codes[i]! * s) * THROUGH_127
      }
    }
    eachStretch(rows!, { n, width, gathered }, stretch)
  },
  heap: ({ linear }, [q, scale, rows], out, attrs) => {
    const [aq, as] = [addressOf(q!), addressOf(scale!)]
    decodeTo(out, rows!, attrs, (from, to, at) => linear!(aq, as, THROUGH_127, attrs.block, from, to, at))
  },
  wgsl: {
    inputs: ['Q', 'S', 'R'],
    numbers: ['n', 'block', 'width', 'gathered'],
    body: `${WGSL_GATHERED}
  let code = extractBits(Q[i / 4], u32(8 * (i % 4)), 8u);
  result[index] = f32(code) * S[i / uniforms.block] / 127.0;`,
  },
})

/** round(127·x/scale) by blocks of `width`, four codes to an int32 word: scale [blocks] */
export const encodeLinear8 = (x: Tensor, scale: Tensor, width: number): Tensor =>
  encodeKernel([x, scale], { n: x.size, width })

/** code·scale/127 of all rows, or of those in `rows` [m] int32 → [m or all, width], flat where all; `block` share a scale */
export const decodeLinear8 = (
  q: Tensor,
  scale: Tensor,
  [height, width]: readonly [number, number],
  rows?: Tensor,
  block: number = width,
): Tensor =>
  tidy(() =>
    decodeKernel([q, scale, rows ?? tensor1d([0], 'int32')], {
      n: height * width,
      block,
      width,
      gathered: rows ? 1 : 0,
    }),
  )
