import type { Decoding } from '../../decoded.ts'
import type { Program } from './program.ts'

/**
 * How a workgroup makes a tile of the product: threads across and down of `rows` × `columns` results each, `lanes` of
 * them that share a result's k among themselves, and the depth of the slice of k that is held in workgroup memory.
 */
export interface Tile {
  readonly across: number
  readonly down: number
  readonly lanes: number
  readonly rows: 4 | 8
  readonly columns: 4 | 8
  readonly depth: number
}

/** What a product's shader is made for. */
export interface Form {
  readonly transposeA: boolean
  readonly transposeB: boolean
  /** fours of a, b, c, d and y lie on 16-byte borders: they are read and written as such */
  readonly wide: {
    readonly a: boolean
    readonly b: boolean
    readonly c: boolean
    readonly d: boolean
    readonly y: boolean
  }
  /** a second pair c, d is multiplied and added */
  readonly and: boolean
  readonly onto: boolean
  readonly bias: boolean
  /** y is added to */
  readonly into: boolean
  /** the tiles hold float16; products and sums are float32 */
  readonly half: boolean
  /** b is packed: its numbers are decoded as they are read */
  readonly decoding?: Decoding | undefined
}

export const uniforms = {
  m: 'u32',
  n: 'u32',
  k: 'u32',
  /** k of the second pair */
  r: 'u32',
  /** batch dimensions, and how far a step in each goes in a and in b (0 where broadcast), in matrices */
  outer: 'vec4u',
  stepA: 'vec4u',
  stepB: 'vec4u',
  scale: 'f32',
  /** the part of k that one workgroup sums up, and the number of parts */
  part: 'u32',
  parts: 'u32',
} as const

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
export const threadsOf = ({ across, down, lanes }: Tile): number => across * down * lanes
export const heightOf = ({ down, rows }: Tile): number => down * rows
export const widthOf = ({ across, columns }: Tile): number => across * columns

/** where the matrices of this batch entry begin in a and b */
export const entry = `
fn entry(batch: u32) -> vec2u {
  var rest = batch;
  var found = vec2u();
  for (var i = 3; i >= 0; i--) {
    let at = rest % u.outer[i];
    rest = rest / u.outer[i];
    found += at * vec2u(u.stepA[i], u.stepB[i]);
  }
  return found * vec2u(u.m * u.k, u.k * u.n);
}`

/** the names of a shader, which tell its code */
export const nameOf = (
  kind: string,
  { transposeA, transposeB, wide, and, onto, bias, into, half, decoding }: Form,
): string =>
  `matmul ${kind} ${[transposeA, transposeB, ...Object.values(wide), and, onto, bias, into, half].map(Number).join('')} ${decoding?.name ?? ''}`

export const readsOf = ({ and, onto, bias, wide, decoding }: Form): string[] => [
  `a${wide.a ? ': vec4f' : ''}`,
  ...(decoding ? Object.keys(decoding.reads) : [`b${wide.b ? ': vec4f' : ''}`]),
  ...(and ? [`c${wide.c ? ': vec4f' : ''}`, `d${wide.d ? ': vec4f' : ''}`] : []),
  ...(onto ? [`onto${wide.y ? ': vec4f' : ''}`] : []),
  ...(bias ? [`bias${wide.y ? ': vec4f' : ''}`] : []),
]

/**
 * Four neighbours in memory, zero where k is past its end. Beyond the edges of m and n anything is read: it stays in rows and
 * columns that are not written. Selects, not branches, which some drivers compile slowly.
 */
const four = (buffer: string, wide: boolean, alongK: boolean, k: string, decoded = false): string => {
  const one = (at: string): string => (decoded ? `weightAt(${at})` : `${buffer}[${at}]`)
  const all = decoded ? 'weightsAt(at)' : `${buffer}[at / 4u]`
  return `
fn ${buffer}4(at: u32, k: u32) -> vec4f {
  return ${
    wide
      ? `select(vec4f(), ${all}, k < ${k})`
      : `vec4f(${range(4).map((i) => `select(0.0, ${one(`at + ${i}u`)}, k${alongK ? ` + ${i}u` : ''} < ${k})`)})`
  };
}`
}

/** functions that decode b, and what a workgroup does before */
export const decodingOf = ({ decoding, transposeB }: Form, threads: number): { head: string; start: string } => ({
  head: decoding?.code(transposeB ? 'u.k' : 'u.n') ?? '',
  start: decoding?.start ? `${decoding.start(threads)}\n  workgroupBarrier();` : '',
})

interface Side {
  readonly buffer: string
  /** matrices that lie along k are turned as they are stored, four by four */
  readonly alongK: boolean
  readonly to: 'left' | 'right'
  readonly fours: number
  readonly stride: number
  readonly start: string
  readonly origin: string
  readonly edge: string
  readonly k: string
}

const load = (s: Side, { depth }: Tile, threads: number, type: string): string =>
  s.alongK
    ? `
    for (var e = local; e < ${(depth / 4) * s.fours}u; e += ${threads}u) {
      let q = e / ${depth / 4}u;
      let p = e % ${depth / 4}u * 4u;
      let at = ${s.start} + (${s.origin} + 4u * q) * ${s.k} + k0 + p;
      ${range(4)
        .map((i) => `let v${i} = ${type}(${s.buffer}4(at + ${i}u * ${s.k}, k0 + p));`)
        .join('\n      ')}
      ${range(4)
        .map((i) => `${s.to}[(p + ${i}u) * ${s.stride}u + q] = ${type}(${range(4).map((j) => `v${j}[${i}]`)});`)
        .join('\n      ')}
    }`
    : `
    for (var e = local; e < ${depth * s.fours}u; e += ${threads}u) {
      let q = e % ${s.fours}u;
      let p = e / ${s.fours}u;
      ${s.to}[p * ${s.stride}u + q] = ${type}(${s.buffer}4(${s.start} + (k0 + p) * ${s.edge} + ${s.origin} + 4u * q, k0 + p));
    }`

/**
 * A tile of y by each workgroup, slice by slice of k from workgroup memory. The ladder, in processor time of a software
 * adapter (four lanes wide, bound by arithmetic, so that what saves reads says little there): tfjs's product 6.7 for
 * [256, 576]·[192, 576]ᵀ; 4 × 4 results by each thread 2.1; 8 × 8 results 1.1; fma 1. On fours of numbers at once: the same there,
 * a quarter of the loads on a GPU. Tried and left: k by 4 in one expression or unrolled (1.3), 256 threads (1.4, for GPUs
 * alone), slices of 32 (0.95, for twice the memory).
 */
export const tiled = (form: Form, tile: Tile): Program => {
  const { transposeA, transposeB, wide, and, onto, bias, into, half } = form
  const { across, down, lanes, rows, columns, depth } = tile
  const threads = threadsOf(tile)
  const [height, width] = [heightOf(tile) / 4, widthOf(tile) / 4] // in fours
  // what is turned is written across the rows of the tile: an odd stride spreads that over the banks of the memory
  const strideA = height + (transposeA ? 0 : 1)
  const strideB = width + (transposeB ? 1 : 0)
  const type = half ? 'vec4h' : 'vec4f'
  const { head, start } = decodingOf(form, threads)
  const left = { alongK: !transposeA, to: 'left', fours: height, stride: strideA, origin: 'm0', edge: 'u.m' } as const
  const right = { alongK: transposeB, to: 'right', fours: width, stride: strideB, origin: 'n0', edge: 'u.n' } as const
  const sums = (f: (i: number, j: number) => string): string =>
    range(rows)
      .flatMap((i) => range(columns / 4).map((j) => f(i, j)))
      .join('\n    ')
  const pair = (a: string, b: string, k: string, startA: string, startB: string): string =>
    load({ ...left, buffer: a, k, start: startA }, tile, threads, type) +
    load({ ...right, buffer: b, k, start: startB }, tile, threads, type)
  const firstPair = pair('a', 'b', 'u.k', 'start.x', 'start.y')
  // the slices of c and d follow those of a and b, so that the sums stand in the shader once
  const slices = `
  for (var slice = first; slice < last${and ? ' + u.r' : ''}; slice += ${depth}u) {
    ${
      and
        ? `if (slice < last) { let k0 = slice; ${firstPair}
    } else { let k0 = slice - last; ${pair('c', 'd', 'u.r', '0u', '0u')}
    }`
        : `let k0 = slice; ${firstPair}`
    }
    workgroupBarrier();
    for (var p = lane; p < ${depth}u; p += ${lanes}u) {
      ${range(rows / 4)
        .map((i) => `let l${i} = vec4f(left[p * ${strideA}u + i4 + ${i * down}u]);`)
        .join('\n      ')}
      ${range(columns / 4)
        .map((j) => `let r${j} = vec4f(right[p * ${strideB}u + j4 + ${j * across}u]);`)
        .join('\n      ')}
      ${sums((i, j) => `s${i}${j} = fma(vec4f(l${i >> 2}[${i & 3}]), r${j}, s${i}${j});`)}
    }
    workgroupBarrier();
  }`
  // the first lane adds up what the others have
  const share = (i: number, j: number, lane: number): string =>
    `shares[${(i * columns) / 4 + j}u * ${threads}u + local + ${lane * across * down}u]`
  const gather = `
  ${sums((i, j) => `${share(i, j, 0)} = s${i}${j};`)}
  workgroupBarrier();
  if (lane > 0u) { return; }
  ${sums(
    (i, j) =>
      `s${i}${j} = ${range(lanes)
        .map((l) => share(i, j, l))
        .join(' + ')};`,
  )}`
  // four results in a row: written at once, or one by one up to the edge
  const write = (i: number, j: number): string => {
    const column = `column${j}`
    const value = (at: string): string =>
      [`s${i}${j}`, into && `yAt(${at})`, onto && `ontoAt(${at})`, bias && `biasAt(${column})`]
        .filter(Boolean)
        .join(' + ')
    return wide.y
      ? `if (${column} < u.n) { y[(row + ${column}) / 4u] = ${value(`row + ${column}`)}; }`
      : `{ let v = ${value(`row + ${column}`)};
        for (var e = 0u; e < min(4u, u.n - min(u.n, ${column})); e++) { y[row + ${column} + e] = v[e]; } }`
  }
  const at = (buffer: string): string => `
fn ${buffer}At(at: u32) -> vec4f {
  return ${wide.y ? `${buffer}[at / 4u]` : `vec4f(${range(4).map((i) => `${buffer}[at + ${i}u]`)})`};
}`
  return {
    name: `${nameOf('tiled', form)} ${[across, down, lanes, rows, columns, depth]}`,
    writes: [`y${wide.y ? ': vec4f' : ''}`],
    reads: readsOf(form),
    uniforms,
    threads,
    ...(half && { enables: ['f16'] as const }),
    head: `${entry}${head}
${four('a', wide.a, !transposeA, 'u.k')}${four('b', wide.b, transposeB, 'u.k', Boolean(form.decoding))}
${and ? `${four('c', wide.c, !transposeA, 'u.r')}${four('d', wide.d, transposeB, 'u.r')}` : ''}
${into ? at('y') : ''}${onto ? at('onto') : ''}${bias ? at('bias') : ''}
var<workgroup> left: array<${type}, ${depth * strideA}>;
var<workgroup> right: array<${type}, ${depth * strideB}>;
${lanes > 1 ? `var<workgroup> shares: array<vec4f, ${(threads * rows * columns) / 4}>;` : ''}`,
    body: `
  ${start}
  let start = entry(group.z / u.parts);
  let m0 = group.y * ${4 * height}u;
  let n0 = group.x * ${4 * width}u;
  let lane = local / ${across * down}u;
  let i4 = local / ${across}u % ${down}u;
  let j4 = local % ${across}u;
  let first = group.z % u.parts * u.part;
  let last = ${and ? `(u.k + ${depth - 1}u) / ${depth}u * ${depth}u` : 'min(u.k, first + u.part)'};
  ${sums((i, j) => `var s${i}${j} = vec4f();`)}
  ${slices}
  ${lanes > 1 ? gather : ''}
  ${sums((i, j) => `s${i}${j} *= u.scale;`)}
  ${range(columns / 4)
    .map((j) => `let column${j} = n0 + 4u * (j4 + ${j * across}u);`)
    .join('\n  ')}
  ${range(rows)
    .map(
      (i) => `{
    let m = m0 + 4u * (i4 + ${(i >> 2) * down}u) + ${i & 3}u;
    let row = (group.z * u.m + m) * u.n;
    if (m < u.m) {
      ${range(columns / 4)
        .map((j) => write(i, j))
        .join('\n      ')}
    }
  }`,
    )
    .join('\n  ')}`,
  }
}

/** Σ over the parts of k: what the workgroups left, [parts, size] for each batch entry → [size] */
export const sumParts: Program = {
  name: 'matmul parts',
  writes: ['y'],
  reads: ['x'],
  uniforms: { size: 'u32', parts: 'u32', total: 'u32' },
  threads: 64,
  body: `
  let i = (group.y * groups.x + group.x) * 64u + local;
  if (i < u.total) {
    let at = i / u.size * u.size * u.parts + i % u.size;
    var sum = 0.0;
    for (var p = 0u; p < u.parts; p++) { sum += x[at + p * u.size]; }
    y[i] = sum;
  }`,
}
