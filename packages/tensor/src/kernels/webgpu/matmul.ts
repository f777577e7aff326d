import { getKernel, registerKernel, type TensorInfo, unregisterKernel } from '@tensorflow/tfjs-core'
import { dispatch, type Gpu, type Program, plainFloats } from './program.ts'

/** Rows and columns that one thread makes, and threads across and down; depth is the slice of k held in the workgroup */
interface Tile {
  readonly across: number
  readonly down: number
  readonly rows: 4 | 8
  readonly columns: 4 | 8
  readonly depth: number
}

const THREADS = 64
const uniforms = {
  m: 'u32',
  n: 'u32',
  k: 'u32',
  /** batch dimensions, and how far a step in each goes in a and in b (0 where broadcast), in matrices */
  outer: 'vec4u',
  stepA: 'vec4u',
  stepB: 'vec4u',
} as const

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

/** elements of a as [m, k] and of b as [k, n], and where the matrices of this batch entry begin */
const access = (transposeA: boolean, transposeB: boolean): string => `
fn atA(m: u32, k: u32) -> u32 { return ${transposeA ? 'k * u.m + m' : 'm * u.k + k'}; }
fn atB(k: u32, n: u32) -> u32 { return ${transposeB ? 'n * u.k + k' : 'k * u.n + n'}; }
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

/** four neighbours along m or n, zero beyond the edges; no branches, which some drivers compile slowly */
const four = (name: string, buffer: string, at: (i: number) => string, along: 'm' | 'n'): string => {
  const one = (i: number): string =>
    `select(0.0, ${buffer}[start + ${at(i)}], k < u.k && ${along} + ${i}u < u.${along})`
  return `
fn ${name}(start: u32, ${along}: u32, k: u32) -> vec4f {
  return vec4f(${range(4).map(one)});
}`
}

const tiled = (transposeA: boolean, transposeB: boolean, { across, down, rows, columns, depth }: Tile): Program => {
  const height = (down * rows) / 4 // of the tile, in fours
  const width = (across * columns) / 4
  // a matrix read along k is written across the tile's rows: an odd stride spreads that over the memory's banks
  const strideA = height + (transposeA ? 0 : 1)
  const strideB = width + (transposeB ? 1 : 0)
  const load = (to: string, from: string, stride: number, fours: number, alongK: boolean, origin: string): string => `
    for (var e = local; e < ${depth * fours}u; e += ${THREADS}u) {
      let q = ${alongK ? `e / ${depth}u` : `e % ${fours}u`};
      let p = ${alongK ? `e % ${depth}u` : `e / ${fours}u`};
      ${to}[p * ${stride}u + q] = ${from}, ${origin} + 4u * q, k0 + p);
    }`
  const sums = (f: (i: number, j: number) => string): string =>
    range(rows)
      .flatMap((i) => range(columns / 4).map((j) => f(i, j)))
      .join('\n')
  return {
    name: `matmul ${[transposeA, transposeB, across, down, rows, columns, depth]}`,
    writes: ['y'],
    reads: ['a', 'b'],
    uniforms,
    threads: THREADS,
    head: `${access(transposeA, transposeB)}
${four('fourA', 'a', (i) => `atA(m + ${i}u, k)`, 'm')}
${four('fourB', 'b', (i) => `atB(k, n + ${i}u)`, 'n')}
var<workgroup> left: array<vec4f, ${depth * strideA}>;
var<workgroup> right: array<vec4f, ${depth * strideB}>;`,
    body: `
  let batch = entry(group.z);
  let m0 = group.y * ${4 * height}u;
  let n0 = group.x * ${4 * width}u;
  let i4 = local / ${across}u * ${rows / 4}u;
  let j4 = local % ${across}u * ${columns / 4}u;
  ${sums((i, j) => `var s${i}${j} = vec4f();`)}
  for (var k0 = 0u; k0 < u.k; k0 += ${depth}u) {
    ${load('left', 'fourA(batch.x', strideA, height, !transposeA, 'm0')}
    ${load('right', 'fourB(batch.y', strideB, width, transposeB, 'n0')}
    workgroupBarrier();
    for (var p = 0u; p < ${depth}u; p++) {
      ${range(rows / 4)
        .map((i) => `let l${i} = left[p * ${strideA}u + i4 + ${i}u];`)
        .join('\n')}
      ${range(columns / 4)
        .map((j) => `let r${j} = right[p * ${strideB}u + j4 + ${j}u];`)
        .join('\n')}
      ${sums((i, j) => `s${i}${j} += l${i >> 2}[${i & 3}] * r${j};`)}
    }
    workgroupBarrier();
  }
  var made = array<vec4f, ${(rows * columns) / 4}>(${range(rows).flatMap((i) => range(columns / 4).map((j) => `s${i}${j}`))});
  for (var e = 0u; e < ${rows * columns}u; e++) {
    let m = m0 + 4u * i4 + e / ${columns}u;
    let n = n0 + 4u * j4 + e % ${columns}u;
    if (m < u.m && n < u.n) { y[(group.z * u.m + m) * u.n + n] = made[e / 4u][e % 4u]; }
  }`,
  }
}

/** At most four rows: each column is summed by several threads, side by side where b is read. */
const thin = (transposeA: boolean, transposeB: boolean, rows: number): Program => {
  const columns = transposeB ? 4 : 16
  const lanes = THREADS / columns
  const type = rows === 1 ? 'f32' : `vec${rows}f`
  const part = (v: string, i: number): string => (rows === 1 ? v : `${v}[${i}]`)
  return {
    name: `matmul thin ${[transposeA, transposeB, rows]}`,
    writes: ['y'],
    reads: ['a', 'b'],
    uniforms,
    threads: THREADS,
    head: `${access(transposeA, transposeB)}
var<workgroup> parts: array<${type}, ${THREADS}>;`,
    body: `
  let batch = entry(group.z);
  let column = ${transposeB ? `local / ${lanes}u` : `local % ${columns}u`};
  let lane = ${transposeB ? `local % ${lanes}u` : `local / ${columns}u`};
  let n = group.x * ${columns}u + column;
  var sum = ${type}();
  if (n < u.n) {
    for (var k = lane; k < u.k; k += ${lanes}u) {
      sum += b[batch.y + atB(k, n)] * ${type}(${range(rows).map((i) => `a[batch.x + atA(${i}u, k)]`)});
    }
  }
  parts[lane * ${columns}u + column] = sum;
  workgroupBarrier();
  if (local < ${columns}u && group.x * ${columns}u + local < u.n) {
    var whole = parts[local];
    for (var l = 1u; l < ${lanes}u; l++) { whole += parts[l * ${columns}u + local]; }
    let to = group.z * u.m * u.n + group.x * ${columns}u + local;
    ${range(rows)
      .map((i) => `y[to + ${i}u * u.n] = ${part('whole', i)};`)
      .join('\n    ')}
  }`,
  }
}

const SQUARE: Tile = { across: 8, down: 8, rows: 4, columns: 4, depth: 16 }
const LARGE: Tile = { across: 8, down: 8, rows: 8, columns: 8, depth: 16 }
const TALL: Tile = { across: 2, down: 32, rows: 4, columns: 4, depth: 16 }
const WIDE: Tile = { across: 32, down: 2, rows: 4, columns: 4, depth: 16 }

const tileFor = (m: number, n: number, batch: number): Tile => {
  if (n <= 8) return TALL
  if (m <= 8) return WIDE
  // large tiles read less, but must leave enough workgroups to fill a GPU
  return batch * Math.ceil(m / 64) * Math.ceil(n / 64) >= 32 ? LARGE : SQUARE
}

const steps = (outer: readonly number[], own: readonly number[]): number[] => {
  let step = 1
  const found = outer.map(() => 0)
  for (let i = 3; i >= 0; i--) {
    found[i] = own[i] === 1 ? 0 : step
    step *= own[i]!
  }
  return found
}
const padded = (shape: readonly number[]): number[] => [...Array<number>(4 - shape.length).fill(1), ...shape]

/** op(a)·op(b) over broadcast batches, or undefined for what tfjs's own kernel has to do */
const product = (
  gpu: Gpu,
  a: TensorInfo,
  b: TensorInfo,
  transposeA: boolean,
  transposeB: boolean,
): TensorInfo | undefined => {
  if (!plainFloats(gpu, a, b) || a.shape.length > 6 || b.shape.length > 6) return undefined
  const [rowsA, columnsA] = a.shape.slice(-2) as [number, number]
  const [rowsB, columnsB] = b.shape.slice(-2) as [number, number]
  const m = transposeA ? columnsA : rowsA
  const k = transposeA ? rowsA : columnsA
  const n = transposeB ? rowsB : columnsB
  const batchA = padded(a.shape.slice(0, -2))
  const batchB = padded(b.shape.slice(0, -2))
  const outer = batchA.map((d, i) => (d === 1 ? batchB[i]! : d))
  const batch = outer.reduce((p, d) => p * d, 1)
  const tile = tileFor(m, n, batch)
  const most = gpu.device.limits.maxComputeWorkgroupsPerDimension
  const isThin = m <= 4
  const groups: [number, number, number] = isThin
    ? [Math.ceil(n / (transposeB ? 4 : 16)), 1, batch]
    : [Math.ceil(n / (tile.across * tile.columns)), Math.ceil(m / (tile.down * tile.rows)), batch]
  if (groups.some((g) => g > most)) return undefined
  const program = isThin ? thin(transposeA, transposeB, m) : tiled(transposeA, transposeB, tile)
  const rank = Math.max(a.shape.length, b.shape.length) - 2
  const [y] = dispatch(gpu, program, {
    reads: [a, b],
    writes: [[...outer.slice(4 - rank), m, n]],
    uniforms: [m, n, k, outer, steps(outer, batchA), steps(outer, batchB)],
    groups,
  })
  return y
}

/** Our product in the place of tfjs's, which remains for what ours declines. */
export const replaceMatMul = (): void => {
  const stock = getKernel('BatchMatMul', 'webgpu')
  unregisterKernel('BatchMatMul', 'webgpu')
  registerKernel({
    ...stock,
    kernelFunc: (call) => {
      const { a, b } = call.inputs as { a: TensorInfo; b: TensorInfo }
      const { transposeA, transposeB } = call.attrs as { transposeA?: boolean; transposeB?: boolean }
      const gpu = call.backend as unknown as Gpu
      return product(gpu, a, b, Boolean(transposeA), Boolean(transposeB)) ?? stock.kernelFunc(call)
    },
  })
}
