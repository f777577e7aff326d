import { type Tensor, tensor1d, tidy } from '@weftjs/tensor'
import { decodeFloats, encodeFloats } from '@weftjs/tensor/checkpoint'
import type { Decoder } from '@weftjs/tensor/decoded'
import { addressOf, routines } from '@weftjs/tensor/heap'
import * as module from '../wasm/plain.generated.ts'
import * as encoding from '../wasm/plain-encode.generated.ts'
import { inBlocks, inRanges, placed, threaded } from './heap.ts'
import { bytesOf, checkRow, decodeTo, loopKernel, type Values, WGSL_GATHERED } from './loop.ts'
import { byteAt, FOUR_TIMES } from './shader.ts'

/** An 8-bit float: sign, exponent and mantissa. */
export interface Float8 {
  readonly dtype: 'F8_E4M3' | 'F8_E5M2'
  readonly mantissa: number
  readonly bias: number
  /** the largest finite number */
  readonly largest: number
}
export const FLOAT8: Readonly<Record<'e4m3' | 'e5m2', Float8>> = {
  e4m3: { dtype: 'F8_E4M3', mantissa: 3, bias: 7, largest: 448 },
  e5m2: { dtype: 'F8_E5M2', mantissa: 2, bias: 15, largest: 57344 },
}
/** rows and columns that share a scale */
export interface Tile {
  readonly tall: number
  readonly wide: number
}
export const tilesOf = ([out, width]: readonly [number, number], { tall, wide }: Tile): [number, number] => [
  Math.ceil(out / tall),
  Math.ceil(width / wide),
]

const absmaxKernel = loopKernel<{ out: number; width: number; tall: number; wide: number }>({
  name: 'TileAbsmax',
  dtype: 'float32',
  shape: ({ out, width, tall, wide }) => tilesOf([out, width], { tall, wide }),
  run: ([x], out, { width, tall, wide }) => {
    const across = Math.ceil(width / wide)
    for (let i = 0, row = 0; i < x!.length; row++) {
      const at = Math.floor(row / tall) * across
      for (let c = 0; c < width; c++, i++) {
        const tile = at + Math.floor(c / wide)
        out[tile] = Math.max(out[tile]!, Math.abs(x![i]!))
      }
    }
  },
  module: encoding,
  heap: (_, [x], y, { out, width, tall, wide }) =>
    inBlocks(encoding, 'tileAbsmax', [y.size, tall * wide], [addressOf(x!), out, width, tall, wide], y),
  wgsl: {
    inputs: ['X'],
    numbers: ['out', 'width', 'tall', 'wide'],
    body: `
  let across = (uniforms.width + uniforms.wide - 1) / uniforms.wide;
  let r = index / across * uniforms.tall;
  let c = index % across * uniforms.wide;
  var most = 0.0;
  for (var i = r; i < min(r + uniforms.tall, uniforms.out); i++) {
    for (var j = c; j < min(c + uniforms.wide, uniforms.width); j++) { most = max(most, abs(X[i * uniforms.width + j])); }
  }
  result[index] = most;`,
  },
})
/** max |w| of each tile, of columns within each row first: w [out, in] → [⌈out/tall⌉, ⌈in/wide⌉] */
export const tileAbsmax = (w: Tensor, { tall, wide }: Tile): Tensor =>
  tidy(() => {
    const [out, width] = w.shape as [number, number]
    const rows = absmaxKernel([w], { out, width, tall: 1, wide }) // [out, ⌈in/wide⌉]
    return tall === 1 ? rows : absmaxKernel([rows], { out, width: rows.shape[1]!, tall, wide: 1 })
  })

const ENCODE = `
fn codeOf(v: f32, mantissa: u32, bias: u32, largest: f32) -> u32 {
  let a = min(abs(v), largest);
  let u = bitcast<u32>(a);
  let drop = 23u - mantissa;
  let large = ((u + (1u << (drop - 1u)) - 1u + ((u >> drop) & 1u)) >> drop) - ((127u - bias) << mantissa);
  // below the least normal number steps are even
  let small = u32(round(a * f32(1u << (bias + mantissa - 1u))));
  let sign = (bitcast<u32>(v) >> 24u) & 128u;
  return sign | select(large, small, u < ((128u - bias) << 23u));
}`

const makeEncoder = ({ dtype, mantissa, bias, largest }: Float8) =>
  loopKernel<{ n: number; width: number; tall: number; wide: number }>({
    name: `Encode ${dtype}`,
    dtype: 'int32',
    shape: ({ n }) => [Math.ceil(n / 4)],
    run: ([x, scale], out, { n, width, tall, wide }) => {
      const across = Math.ceil(width / wide)
      const bytes = bytesOf(out)
      const row = new Float32Array(width)
      for (let r = 0, from = 0; from < n; r++, from += width) {
        const at = Math.floor(r / tall) * across
        for (let c = 0; c < width; c++) {
          const s = scale![at + Math.floor(c / wide)]!
          const v = s > 0 ? Math.fround(x![from + c]! / s) : 0
          row[c] = Math.max(-largest, Math.min(largest, v))
        }
        bytes.set(encodeFloats(dtype, row), from)
      }
    },
    module: encoding,
    heap: (_, [x, scale], out, { n, width, tall, wide }) => {
      const values = [addressOf(x!), addressOf(scale!), mantissa, bias, largest, width, tall, wide]
      inRanges(encoding, 'tileCodes', [n, 4], values, addressOf(out))
    },
    wgsl: {
      inputs: ['X', 'S'],
      numbers: ['n', 'width', 'tall', 'wide'],
      head: ENCODE,
      body: `
  let across = (uniforms.width + uniforms.wide - 1) / uniforms.wide;
  var word = 0u;
  for (var j = 0; j < 4; j++) {
    let i = index * 4 + j;
    if (i >= uniforms.n) { break; }
    let s = S[i / uniforms.width / uniforms.tall * across + i % uniforms.width / uniforms.wide];
    var v = 0.0;
    if (s > 0.0) { v = X[i] / s; }
    word |= codeOf(v, ${mantissa}u, ${bias}u, ${largest}.0) << u32(8 * j);
  }
  result[index] = bitcast<i32>(word);`,
    },
  })

const encoders = new Map<string, ReturnType<typeof makeEncoder>>()
/** w/scale as 8-bit floats, rounded to nearest, ties to even, clamped to the largest: four codes to an int32 word */
export const encodeFloat8 = (w: Tensor, scale: Tensor, kind: Float8, tile: Tile): Tensor => {
  const known = encoders.get(kind.dtype) ?? makeEncoder(kind)
  encoders.set(kind.dtype, known)
  return known([w, scale], { n: w.size, width: w.shape[1]!, ...tile })
}

const levels = new Map<string, Float32Array>()
/** the numbers of all codes, as torch has them; NaN and infinity are never made here, and are some number on a GPU */
export const levelsOf = ({ dtype }: Float8): Float32Array => {
  const known = levels.get(dtype)
  if (known) return known
  const all = decodeFloats(
    dtype,
    Uint8Array.from({ length: 256 }, (_, i) => i),
  )
  levels.set(dtype, all)
  return all
}

interface DecodeAttrs extends Tile {
  readonly [name: string]: number
  readonly n: number
  readonly width: number
  readonly gathered: number
}
const decodeKernel = loopKernel<DecodeAttrs>({
  name: 'Float8Decode',
  dtype: 'float32',
  shape: ({ n, width, gathered }, [, , , rows]) => (gathered ? [rows!, width] : [n]),
  run: ([q, scale, levels, rows], out, { n, width, tall, wide, gathered }) => {
    const bytes = bytesOf(q!)
    const across = Math.ceil(width / wide)
    const one = (row: number, at: number): void => {
      const first = Math.floor(row / tall) * across
      for (let c = 0; c < width; c++)
        out[at + c] = levels![bytes[row * width + c]!]! * scale![first + Math.floor(c / wide)]!
    }
    if (gathered)
      (rows as Values).forEach((row, i) => {
        checkRow(row, n / width)
        one(row, i * width)
      })
    else for (let r = 0; r < n / width; r++) one(r, r * width)
  },
  module,
  heap: ({ tiles }, [q, scale, levels, rows], out, attrs) => {
    const [aq, as, al] = [q!, scale!, levels!].map(addressOf) as [number, number, number]
    const { width, tall, wide } = attrs
    decodeTo(out, rows!, attrs, (from, to, at) => tiles!(aq, al, as, width, tall, wide, from, to, at))
  },
  wgsl: {
    inputs: ['Q', 'S', 'L', 'R'],
    numbers: ['n', 'width', 'tall', 'wide', 'gathered'],
    body: `${WGSL_GATHERED}
  let across = (uniforms.width + uniforms.wide - 1) / uniforms.wide;
  let code = (bitcast<u32>(Q[i / 4]) >> u32(8 * (i % 4))) & 255u;
  result[index] = L[code] * S[i / uniforms.width / uniforms.tall * across + i % uniforms.width / uniforms.wide];`,
  },
})

/** level·scale of all numbers, flat, or of the rows that `rows` [m] int32 names → [m, width] */
export const decodeFloat8 = (
  q: Tensor,
  scale: Tensor,
  kind: Float8,
  tile: Tile,
  [height, width]: readonly [number, number],
  rows?: Tensor,
): Tensor =>
  tidy(() =>
    decodeKernel([q, scale, tensor1d(levelsOf(kind)), rows ?? tensor1d([0], 'int32')], {
      ...{ n: height * width, width, tall: tile.tall, wide: tile.wide, gathered: rows ? 1 : 0 },
    }),
  )

/** the same within a product */
export const float8Decoder = (q: Tensor, scale: Tensor, kind: Float8, tile: Tile, width: number): Decoder => ({
  heap: () => {
    if (!routines(module)) return undefined
    const [al] = placed([levelsOf(kind)])
    return threaded(module, 'tiles', [addressOf(q), al!, addressOf(scale), width, tile.tall, tile.wide])
  },
  shader: () => {
    const { mantissa, bias } = kind
    const across = Math.ceil(width / tile.wide)
    const scaleAt = `scales[i / ${width}u / ${tile.tall}u * ${across}u + i % ${width}u / ${tile.wide}u]`
    // no NaN, no infinity: arithmetic alone, subnormal numbers being even steps
    return {
      name: `float8 ${[mantissa, width, tile.tall, tile.wide]}`,
      reads: { 'q: u32': q, scales: scale },
      code: () => `
fn floatOf(c: u32) -> f32 {
  let rest = c & 127u;
  let normal = bitcast<f32>((rest << ${23 - mantissa}u) + ${(127 - bias) << 23}u);
  let small = f32(rest) * ${2 ** (1 - bias - mantissa)};
  let size = select(normal, small, rest < ${1 << mantissa}u);
  return select(size, -size, c > 127u);
}
fn weightAt(i: u32) -> f32 { return floatOf(${byteAt('q', 'i')}) * ${scaleAt}; }
${
  tile.wide % 4 && tile.wide < width
    ? FOUR_TIMES
    : `fn weightsAt(i: u32) -> vec4f {
  let w = q[i / 4u];
  return vec4f(floatOf(w & 255u), floatOf((w >> 8u) & 255u), floatOf((w >> 16u) & 255u), floatOf(w >> 24u)) * ${scaleAt};
}`
}`,
    }
  },
})
