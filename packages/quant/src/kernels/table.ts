import { type Tensor, tensor1d, tidy } from '@weftjs/tensor'
import { addressOf, heapBytes, inParts, output } from '@weftjs/tensor/heap'
import * as encoding from '../wasm/encode.generated.ts'
import { inBlocks } from './heap.ts'
import { bytesOf, decodeTo, eachStretch, loopKernel, type Values, WGSL_GATHERED } from './loop.ts'

/** A code book: `levels[code]` for every code, 16 of them (two codes a byte, the first in the high half) or 256. */
export interface Table {
  readonly levels: Float32Array
  /** the levels, and of 16 levels their first bytes, second, third and fourth too: what looks up 16 codes at a time */
  readonly lookup: Float32Array
  /** codes in ascending order of their levels */
  readonly order: Int32Array
  /** halfway between neighbouring levels, in float32: a number above `midpoints[i]` is nearer to level i + 1 */
  readonly midpoints: Float32Array
}

export const table = (levels: readonly number[] | Float32Array): Table => {
  if (levels.length !== 16 && levels.length !== 256)
    throw new Error(`table: a code book has 16 or 256 levels, found ${levels.length}`)
  const all = Float32Array.from(levels)
  const order = Int32Array.from(all.keys()).sort((a, b) => all[a]! - all[b]! || a - b)
  const midpoints = Float32Array.from({ length: all.length - 1 }, (_, i) =>
    Math.fround(Math.fround(all[order[i]!]! + all[order[i + 1]!]!) / 2),
  )
  return { levels: all, lookup: all.length === 16 ? withPlanes(all) : all, order, midpoints }
}

const withPlanes = (levels: Float32Array): Float32Array => {
  const bytes = new Uint8Array(8 * levels.length)
  bytes.set(new Uint8Array(levels.buffer))
  for (let i = 0; i < 64; i++) bytes[64 + 16 * (i % 4) + (i >> 2)] = bytes[i]!
  return new Float32Array(bytes.buffer)
}

const SMALLEST = Math.fround(1e-38)

/** Which of the sorted levels is nearest; a tie goes to the lower one, as bitsandbytes has it. */
const nearest = (midpoints: Values, v: number): number => {
  let lo = 0
  let hi = midpoints.length
  while (lo < hi) {
    const mid = (lo + hi) >> 1
    if (midpoints[mid]! < v) lo = mid + 1
    else hi = mid
  }
  return lo
}

/** numbers that are worth a thread */
const PART = 2 ** 16

interface Encoding extends Readonly<Record<string, number>> {
  readonly n: number
  readonly block: number
  readonly count: number
}
const encode = ([x, scale, midpoints, order]: readonly Values[], out: Values, { n, block, count }: Encoding): void => {
  const bytes = bytesOf(out)
  const zero = order![nearest(midpoints!, 0)]!
  for (let b = 0, from = 0; from < n; b++, from += block) {
    const s = Math.max(scale![b]!, SMALLEST)
    const end = Math.min(from + block, n)
    const inverse = Math.fround(1 / s)
    // bitsandbytes divides in a short last block, and multiplies by the inverse elsewhere
    const short = end - from < block
    for (let i = from; i < end; i++) {
      const v = Math.fround(short ? x![i]! / s : x![i]! * inverse)
      const code = order![nearest(midpoints!, Math.min(1, Math.max(-1, v)))]!
      if (count === 16) bytes[i >> 1]! |= i & 1 ? code : code << 4
      else bytes[i] = code
    }
  }
  if (count === 16 && n % 2) bytes[n >> 1]! |= zero
}
/** middles, each four times, and the codes in rising order, as the routine reads them */
const tablesOf = (midpoints: Values, order: Values): Uint8Array => {
  const tables = new Uint8Array(256)
  new Float32Array(tables.buffer).set(Float32Array.from({ length: 60 }, (_, i) => midpoints[i >> 2]!))
  tables.set(Uint8Array.from(order), 240)
  return tables
}

const encodeKernel = loopKernel<Encoding>({
  name: 'TableEncode',
  dtype: 'int32',
  shape: ({ n, count }) => [Math.ceil(n / (count === 16 ? 8 : 4))],
  run: encode,
  module: encoding,
  heap: (_, inputs, out, attrs) => {
    const { n, block, count } = attrs
    if (count === 256) {
      const values = [...inputs.map(addressOf), SMALLEST, block, n]
      inBlocks(encoding, 'nearest256', [Math.ceil(n / block), block], values, out)
      return
    }
    const place = output([64])
    const view = (t: Tensor, from = 0, length = t.size - from): Values => {
      const { buffer, byteOffset } = heapBytes(addressOf(t) + 4 * from, 4 * length)
      return t.dtype === 'int32'
        ? new Int32Array(buffer, byteOffset, length)
        : new Float32Array(buffer, byteOffset, length)
    }
    const [x, scale, midpoints, order] = inputs as [Tensor, Tensor, Tensor, Tensor]
    const full = block % 16 === 0 ? Math.floor(n / block) : 0
    heapBytes(addressOf(place), 256).set(full ? tablesOf(view(midpoints), view(order)) : new Uint8Array(256))
    const [ax, as, at, aq] = [addressOf(x), addressOf(scale), addressOf(place), addressOf(out)]
    if (full)
      inParts(encoding, 'nearest16', { n: full, least: Math.ceil(PART / block) }, (from, blocks) => [
        ...[ax, as, at, block, SMALLEST, from, from + blocks, aq],
      ])
    place.dispose()
    const left = n - full * block
    if (left)
      encode([view(x, full * block), view(scale, full), view(midpoints), view(order)], view(out, (full * block) / 8), {
        ...attrs,
        n: left,
      })
  },
  wgsl: {
    inputs: ['X', 'S', 'M', 'O'],
    numbers: ['n', 'block', 'count'],
    body: `
  let each = select(4, 8, uniforms.count == 16);
  var word = 0u;
  for (var j = 0; j < each; j++) {
    let i = index * each + j;
    if (i > uniforms.n || (i == uniforms.n && (uniforms.count != 16 || i % 2 == 0))) { break; }
    var v = 0.0;
    if (i < uniforms.n) { v = clamp(X[i] / max(S[i / uniforms.block], 1.1754944e-38), -1.0, 1.0); }
    var lo = 0;
    var hi = uniforms.count - 1;
    while (lo < hi) {
      let mid = (lo + hi) / 2;
      if (M[mid] < v) { lo = mid + 1; } else { hi = mid; }
    }
    let shift = select(8 * j, 8 * (j / 2) + 4 * (1 - j % 2), uniforms.count == 16);
    word |= u32(O[lo]) << u32(shift);
  }
  result[index] = bitcast<i32>(word);`,
  },
})

const decodeKernel = loopKernel<{ n: number; block: number; count: number; width: number; gathered: number }>({
  name: 'TableDecode',
  dtype: 'float32',
  shape: ({ n, width, gathered }, [, , , rows]) => (gathered ? [rows!, width] : [n]),
  run: ([q, scale, levels, rows], out, { n, block, count, width, gathered }) => {
    const bytes = bytesOf(q!)
    const scaled = new Float32Array(count)
    /** numbers [from, end) to out[at...] */
    const stretch = (from: number, end: number, at: number): void => {
      for (let i = from, b = Math.floor(from / block); i < end; b++) {
        const s = scale![b]!
        const until = Math.min(end, (b + 1) * block)
        if (count === 16) {
          for (let c = 0; c < 16; c++) scaled[c] = levels![c]! * s
          if (i & 1) out[at++] = scaled[bytes[i++ >> 1]! & 15]!
          for (; i + 1 < until; i += 2, at += 2) {
            const pair = bytes[i >> 1]!
            out[at] = scaled[pair >> 4]!
            out[at + 1] = scaled[pair & 15]!
          }
          if (i < until) out[at++] = scaled[bytes[i++ >> 1]! >> 4]!
        } else for (; i < until; i++) out[at++] = levels![bytes[i]!]! * s
      }
    }
    eachStretch(rows!, { n, width, gathered }, stretch)
  },
  heap: ({ four, eight }, [q, scale, levels, rows], out, attrs) => {
    const [aq, as, al] = [q!, scale!, levels!].map(addressOf) as [number, number, number]
    const decode = attrs.count === 16 ? four! : eight!
    decodeTo(out, rows!, attrs, (from, to, at) => decode(aq, al, as, 0, attrs.block, from, to, at))
  },
  wgsl: {
    inputs: ['Q', 'S', 'L', 'R'],
    numbers: ['n', 'block', 'count', 'width', 'gathered'],
    body: `${WGSL_GATHERED}
  var code = 0u;
  if (uniforms.count == 16) {
    code = (bitcast<u32>(Q[i / 8]) >> u32(8 * ((i % 8) / 2) + 4 * (1 - i % 2))) & 15u;
  } else {
    code = (bitcast<u32>(Q[i / 4]) >> u32(8 * (i % 4))) & 255u;
  }
  result[index] = L[code] * S[i / uniforms.block];`,
  },
})

/** codes of x/scale, packed into int32 words as bitsandbytes' bytes lie: x of n numbers, scale [⌈n/block⌉] */
export const encodeTable = (x: Tensor, scale: Tensor, { levels, midpoints, order }: Table, block: number): Tensor =>
  tidy(() =>
    encodeKernel([x, scale, tensor1d(midpoints), tensor1d(order, 'int32')], {
      n: x.size,
      block,
      count: levels.length,
    }),
  )

/** level·scale of n packed codes → [n] */
export const decodeTable = (q: Tensor, scale: Tensor, { levels, lookup }: Table, block: number, n: number): Tensor =>
  tidy(() =>
    decodeKernel([q, scale, tensor1d(lookup), tensor1d([0], 'int32')], {
      n,
      block,
      count: levels.length,
      width: 1,
      gathered: 0,
    }),
  )

/** the same for some rows of width numbers each: rows [m] int32 → [m, width] */
export const decodeRows = (
  q: Tensor,
  scale: Tensor,
  { levels, lookup }: Table,
  block: number,
  [height, width]: readonly [number, number],
  rows: Tensor,
): Tensor =>
  tidy(() =>
    decodeKernel([q, scale, tensor1d(lookup), rows], {
      n: height * width,
      block,
      count: levels.length,
      width,
      gathered: 1,
    }),
  )
