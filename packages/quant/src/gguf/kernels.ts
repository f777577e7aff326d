import { defineKernel, fill, type Tensor, tensor, tensor1d, tidy } from '@weftjs/tensor'
import type { Decode, Decoder } from '@weftjs/tensor/decoded'
import { addressOf, inParts, output, routines, threads } from '@weftjs/tensor/heap'
import { BF16, F16 } from '../kernels/half.ts'
import { placed } from '../kernels/heap.ts'
import { bytesOf, decodeTo, eachStretch, loopKernel, type Values, WGSL_GATHERED } from '../kernels/loop.ts'
import * as module from '../wasm/gguf.generated.ts'
import * as encoding from '../wasm/gguf-encode.generated.ts'
import { f, squares } from './numbers.ts'
import type { Block } from './types.ts'

/** Matrices in blocks on each backend: by our routines on the wasm heap, by WGSL, and elsewhere block by block. */

/** of a type in assembly/gguf.ts: `fromQ4k` decodes, `toQ4k` encodes */
const routineOf = (way: 'from' | 'to', { type }: Block): string =>
  way + type[0] + type.slice(1).toLowerCase().replace('_', '')

/** numbers that are worth a thread */
const PART = 2 ** 17
/** bytes of scratch that a thread has while encoding, as `own` in assembly/gguf-encode/shared.ts knows */
const SCRATCH = 2 ** 12

const wordsFor = ({ size, bytes }: Block, n: number): number => Math.ceil(((n / size) * bytes) / 4)

const decodeOnHeap = (block: Block, q: Tensor): Decode | undefined => {
  const routine = routineOf('from', block)
  const { size, bytes, table } = block
  const from = table?.module ?? module
  if (!routines(from)?.[routine]) return undefined
  const at = table && placed([new Float32Array(table.values().buffer)])[0]!
  const aq = addressOf(q)
  return (start, to, y) =>
    inParts(from, routine, { n: (to - start) / size, least: PART / size }, (first, count) => [
      ...[aq + (start / size + first) * bytes, count, y + 4 * size * first],
      ...(at === undefined ? [] : [at]),
    ])
}

// float16's and bfloat16's own
const HALVES: Readonly<Record<string, string>> = { F16: F16.wgsl.from, BF16: BF16.wgsl.from }
/** WGSL functions of a block's type, given `word(i)`, word i of all bytes */
const shaderOf = ({ type, size, bytes, shader }: Block): string => {
  if (!shader) {
    const value = type === 'F32' ? 'bitcast<f32>(word(i))' : 'floatOf((word(i / 2u) >> (16u * (i % 2u))) & 0xffffu)'
    return `
fn floatOf(h: u32) -> f32 { ${HALVES[type] ?? 'return 0.0;'} }
fn weightAt(i: u32) -> f32 { return ${value}; }
fn weightsAt(i: u32) -> vec4f { return vec4f(weightAt(i), weightAt(i + 1u), weightAt(i + 2u), weightAt(i + 3u)); }`
  }
  return `
fn floatOf(h: u32) -> f32 { ${F16.wgsl.from} }
fn byteAt(i: u32) -> u32 { return (word(i / 4u) >> (8u * (i % 4u))) & 255u; }
fn wordAt(i: u32) -> u32 {
  let first = word(i / 4u);
  let over = i % 4u;
  if (over == 0u) { return first; }
  return (first >> (8u * over)) | (word(i / 4u + 1u) << (32u - 8u * over));
}
fn halfAt(i: u32) -> f32 { return floatOf((word(i / 4u) >> (8u * (i % 4u))) & 0xffffu); }
fn bytesOf(w: u32) -> vec4u { return vec4u(w, w >> 8u, w >> 16u, w >> 24u) & vec4u(255u); }
fn nibblesOf(w: u32) -> vec4u { return bytesOf(w) & vec4u(15u); }
fn signedOf(w: u32) -> vec4f {
  let s = bitcast<i32>(w);
  return vec4f(vec4i(extractBits(s, 0u, 8u), extractBits(s, 8u, 8u), extractBits(s, 16u, 8u), s >> 24u));
}
${shader.head ?? ''}
fn codesOf(at: u32, e: u32) -> vec4f { ${shader.codes} }
fn scaleOf(at: u32, e: u32) -> vec2f { ${shader.scale} }
fn weightsAt(i: u32) -> vec4f {
  let at = i / ${size}u * ${bytes}u;
  let e = i % ${size}u;
  let s = scaleOf(at, e);
  return codesOf(at, e) * s.x + s.y;
}
fn weightAt(i: u32) -> f32 { return weightsAt(i & 0xfffffffcu)[i & 3u]; }`
}

interface DecodeAttrs extends Readonly<Record<string, number>> {
  readonly n: number
  readonly width: number
  readonly gathered: number
}
interface EncodeAttrs {
  readonly rows: number
  readonly width: number
}
interface Kernels {
  readonly decode: (q: Tensor, shape: readonly [number, number], rows?: Tensor) => Tensor
  /** `columns` is the importance of each */
  readonly encode: (w: Tensor, columns?: Tensor) => Tensor
  readonly decoder: (q: Tensor) => Decoder
}

const encodeRows = (
  { quantize, size, bytes }: Block,
  x: Float32Array,
  { rows, width }: EncodeAttrs,
  columns: Float32Array | undefined,
  out: Uint8Array,
): void => {
  for (let r = 0, at = 0; r < rows; r++) {
    const power = columns ? f(squares(x, r * width, width) / width) : 0
    for (let c = 0; c < width; c += size, at += bytes)
      quantize!(x, r * width + c, out, at, columns && { columns, at: c, power })
  }
}

const encodeKernelOf = (block: Block): Kernels['encode'] => {
  const kernel = defineKernel<Record<string, Tensor | undefined>, EncodeAttrs>({
    name: `GgufEncode ${block.type}`,
    plain: ({ w, columns }, attrs) => {
      const words = new Int32Array(wordsFor(block, attrs.rows * attrs.width))
      const x = w!.dataSync() as Float32Array
      encodeRows(block, x, attrs, columns?.dataSync() as Float32Array | undefined, bytesOf(words))
      return tensor(words, [words.length], 'int32')
    },
    on: {
      wasm: ({ w, columns }, { rows, width }) => {
        const routine = routineOf('to', block)
        if (!routines(encoding)?.[routine]) return undefined
        return tidy(() => {
          const words = wordsFor(block, rows * width)
          const q = fill([words], 0, 'int32')
          const scratch = output([(threads() * SCRATCH) / 4])
          const [ax, ac, aq, as] = [addressOf(w!), columns ? addressOf(columns) : 0, addressOf(q), addressOf(scratch)]
          inParts(encoding, routine, { n: rows, least: Math.ceil(PART / 32 / width) }, (first, count) => [
            ...[ax + 4 * width * first, count, width, ac],
            ...[aq + (width / block.size) * block.bytes * first, as],
          ])
          return q
        })
      },
    },
  })
  return (w, columns) => {
    const [rows, width] = w.shape as [number, number]
    return kernel({ w, ...(columns && { columns }) }, { rows, width })
  }
}

/** the table of a type's shader, made for a product or a kernel */
const tableIn = ({ table }: Block): Tensor[] => (table ? [tensor1d(table.codes(), 'int32')] : [])

const decodeKernelOf = (block: Block): Kernels['decode'] => {
  const { size, bytes } = block
  const kernel = loopKernel<DecodeAttrs>({
    name: `GgufDecode ${block.type}`,
    dtype: 'float32',
    module,
    shape: ({ n, width, gathered }, [, rows]) => (gathered ? [rows!, width] : [n]),
    run: ([q, rows], out, { n, width, gathered }) => {
      const packed = bytesOf(q!)
      eachStretch(rows!, { n, width, gathered }, (from, end, at) => {
        for (let i = from; i < end; i += size, at += size)
          block.dequantize(packed, (i / size) * bytes, out as Float32Array, at)
      })
    },
    ...((ON_HEAP.has(block.type) || block.table) && {
      heap: (_, [q, rows], out, attrs) => decodeTo(out, rows!, attrs, decodeOnHeap(block, q!)!),
    }),
    wgsl: {
      inputs: ['Q', 'R', ...(block.table ? ['T'] : [])],
      numbers: ['n', 'width', 'gathered'],
      head: `fn word(i: u32) -> u32 { return bitcast<u32>(Q[i]); }${block.table ? 'fn tableAt(i: u32) -> u32 { return bitcast<u32>(T[i]); }' : ''}${shaderOf(block)}`,
      body: `${WGSL_GATHERED}
  result[index] = weightAt(u32(i));`,
    },
  })
  return (q, [height, width], rows) =>
    tidy(() =>
      kernel([q, rows ?? tensor1d([0], 'int32'), ...tableIn(block)], {
        n: height * width,
        width,
        gathered: rows ? 1 : 0,
      }),
    )
}

/** types that assembly/gguf.ts decodes */
const ON_HEAP: ReadonlySet<string> = new Set([
  'F32',
  'F16',
  'BF16',
  'Q8_0',
  'Q4_0',
  'Q4_1',
  'Q5_0',
  'Q5_1',
  'Q2_K',
  'Q3_K',
  'Q4_K',
  'Q5_K',
  'Q6_K',
  'IQ4_NL',
  'IQ4_XS',
  'TQ2_0',
  'MXFP4',
])

const known = new Map<Block, Kernels>()
export const kernelsOf = (block: Block): Kernels => {
  const found = known.get(block)
  if (found) return found
  const made: Kernels = {
    encode: encodeKernelOf(block),
    decode: decodeKernelOf(block),
    decoder: (q) => ({
      heap: () => decodeOnHeap(block, q),
      shader: () => ({
        name: `gguf ${block.type}`,
        reads: { 'q: u32': q, ...(block.table && { 'table: u32': tableIn(block)[0]! }) },
        code: () =>
          `fn word(i: u32) -> u32 { return q[i]; }${block.table ? 'fn tableAt(i: u32) -> u32 { return table[i]; }' : ''}${shaderOf(block)}`,
      }),
    }),
  }
  known.set(block, made)
  return made
}
export type { Values }
