import { stopGradient, type Tensor, tensor1d } from '@weftjs/tensor'
import type { Decode, Decoder } from '@weftjs/tensor/decoded'
import { addressOf, heapBytes } from '@weftjs/tensor/heap'
import { F16 } from './half.ts'
import { checkRow, loopKernel, type Values } from './loop.ts'

/** A sparse matrix S [out, in] by rows: 16 bits of value and 16 of column (32 where in > 65536) a number, 32 for a row. */
export interface Sparse {
  /** where each row begins, and the last ends: int32 [out + 1] */
  readonly starts: Tensor
  /** columns, two to an int32 word [⌈k/2⌉], or one [k] */
  readonly columns: Tensor
  /** float16, two to an int32 word [⌈k/2⌉] */
  readonly values: Tensor
}
const NARROW = 2 ** 16
export const columnWords = (k: number, width: number): number => (width > NARROW ? k : Math.ceil(k / 2))

/** numbers by their places in W row by row, ascending */
export const sparseOf = (
  places: ArrayLike<number>,
  values: ArrayLike<number>,
  [out, width]: readonly [number, number],
): Sparse => {
  const k = places.length
  const starts = new Int32Array(out + 1)
  const halves = new Uint16Array(2 * Math.ceil(k / 2))
  const columns = new Int32Array(columnWords(k, width))
  const short = new Uint16Array(columns.buffer)
  for (let e = 0; e < k; e++) {
    starts[Math.floor(places[e]! / width) + 1]! += 1
    halves[e] = F16.to(values[e]!)
    if (width > NARROW) columns[e] = places[e]! % width
    else short[e] = places[e]! % width
  }
  for (let r = 0; r < out; r++) starts[r + 1]! += starts[r]!
  return {
    starts: tensor1d(starts, 'int32'),
    columns: tensor1d(columns, 'int32'),
    values: tensor1d(new Int32Array(halves.buffer), 'int32'),
  }
}

/** The entries of a row: what a file says of where they are is held within what there is, and to `width` of them. */
const eachOf = (starts: Values, columns: Values, values: Values, width: number) => {
  const wide = width > NARROW
  const short = new Uint16Array(columns.buffer, columns.byteOffset, 2 * columns.length)
  const halves = new Uint16Array(values.buffer, values.byteOffset, 2 * values.length)
  const count = Math.min(halves.length, wide ? columns.length : short.length)
  return (row: number, take: (column: number, value: number) => void): void => {
    const from = Math.max(0, starts[row]!)
    const to = Math.min(count, starts[row + 1]!, from + width)
    for (let e = from; e < to; e++) {
      const column = wide ? columns[e]! : short[e]!
      if (column >= 0 && column < width) take(column, F16.from(halves[e]!))
    }
  }
}

/** functions of WGSL over the buffers P, C and V: where the entries of a row are, and each one's column and value */
const entries = (
  names: readonly [string, string, string],
  width: string,
  counts: readonly [string, string],
): string => `
fn firstOf(row: u32) -> u32 { return u32(max(i32(${names[0]}[row]), 0)); }
fn lastOf(row: u32) -> u32 {
  let most = min(2u * ${counts[1]}, select(2u, 1u, ${width} > ${NARROW}u) * ${counts[0]});
  return min(min(u32(max(i32(${names[0]}[row + 1u]), 0)), most), firstOf(row) + ${width});
}
fn columnOf(e: u32) -> u32 {
  if (${width} > ${NARROW}u) { return u32(${names[1]}[e]); }
  return (bitcast<u32>(${names[1]}[e / 2u]) >> (16u * (e % 2u))) & 0xffffu;
}
fn floatOf16(h: u32) -> f32 { ${F16.wgsl.from} }
fn valueOf(e: u32) -> f32 { return floatOf16((bitcast<u32>(${names[2]}[e / 2u]) >> (16u * (e % 2u))) & 0xffffu); }`

const HEAD = entries(['P', 'C', 'V'], 'u32(uniforms.width)', ['u32(uniforms.columns)', 'u32(uniforms.halves)'])

const ontoKernel = loopKernel<{ width: number; out: number; gathered: number; columns: number; halves: number }>({
  name: 'SparseOnto',
  dtype: 'float32',
  shape: ({ width }, [base]) => [base! / width, width],
  run: ([base, starts, columns, values, rows], y, { width, out, gathered }) => {
    y.set(base!)
    const each = eachOf(starts!, columns!, values!, width)
    for (let i = 0; i < y.length / width; i++) {
      const row = gathered ? rows![i]! : i
      checkRow(row, out)
      each(row, (column, value) => {
        y[i * width + column]! += value
      })
    }
  },
  wgsl: {
    inputs: ['B', 'P', 'C', 'V', 'R'],
    numbers: ['width', 'gathered', 'columns', 'halves'],
    head: HEAD,
    body: `
  var row = index / uniforms.width;
  if (uniforms.gathered == 1) { row = R[row]; }
  let column = u32(index % uniforms.width);
  var v = B[index];
  for (var e = firstOf(u32(row)); e < lastOf(u32(row)); e++) { if (columnOf(e) == column) { v += valueOf(e); } }
  result[index] = v;`,
  },
})
/** base + S, or base + the rows of S that `rows` [m] int32 names: base of m or out rows, flat or not → [m or out, in] */
export const ontoDense = (
  base: Tensor,
  { starts, columns, values }: Sparse,
  [out, width]: readonly [number, number],
  rows?: Tensor,
): Tensor =>
  columns.size === 0
    ? base
    : ontoKernel([base, starts, columns, values, rows ?? starts], {
        ...{ width, out, gathered: rows ? 1 : 0, columns: columns.size, halves: values.size },
      })

const productKernel = loopKernel<{ width: number; out: number; columns: number; halves: number }>({
  name: 'SparseProduct',
  dtype: 'float32',
  shape: (_, [y]) => [y!],
  run: ([y, x, starts, columns, values], to, { width, out }) => {
    to.set(y!)
    const each = eachOf(starts!, columns!, values!, width)
    for (let r = 0; r < out; r++)
      each(r, (column, value) => {
        for (let i = 0, at = r; at < to.length; i += width, at += out) to[at]! += value * x![i + column]!
      })
  },
  wgsl: {
    inputs: ['Y', 'X', 'P', 'C', 'V'],
    numbers: ['width', 'out', 'columns', 'halves'],
    head: HEAD,
    body: `
  let row = u32(index % uniforms.out);
  let x = u32(index / uniforms.out * uniforms.width);
  var v = Y[index];
  for (var e = firstOf(row); e < lastOf(row); e++) { v += valueOf(e) * X[x + min(columnOf(e), u32(uniforms.width) - 1u)]; }
  result[index] = v;`,
  },
})
/** y + x·Sᵀ: y of N·out numbers, x of N·in → flat. For products with a gradient of their own. */
export const ontoProduct = (
  y: Tensor,
  x: Tensor,
  { starts, columns, values }: Sparse,
  [out, width]: readonly [number, number],
): Tensor => {
  if (columns.size === 0) return y
  // a tensor that a gradient is taken of would not reach the backend's own kernel
  const at = [y, stopGradient(x), starts, columns, values]
  return productKernel(at, { width, out, columns: columns.size, halves: values.size })
}

/** W + S within a product, W decoded by `inner` */
export const withSparse = (inner: Decoder, sparse: Sparse, width: number): Decoder =>
  sparse.columns.size === 0 ? inner : composed(inner, sparse, width)

const composed = (inner: Decoder, { starts, columns, values }: Sparse, width: number): Decoder => ({
  heap: (): Decode | undefined => {
    const decode = inner.heap()
    if (!decode) return undefined
    const view = (t: Tensor): Int32Array => {
      const bytes = heapBytes(addressOf(t), 4 * t.size)
      return new Int32Array(bytes.buffer, bytes.byteOffset, t.size)
    }
    return (from, to, at) => {
      decode(from, to, at)
      const bytes = heapBytes(at, 4 * (to - from))
      const y = new Float32Array(bytes.buffer, bytes.byteOffset, to - from)
      const each = eachOf(view(starts), view(columns), view(values), width)
      for (let row = Math.floor(from / width); row * width < to; row++)
        each(row, (column, value) => {
          const i = row * width + column - from
          if (i >= 0 && i < y.length) y[i]! += value
        })
    }
  },
  shader: () => {
    const within = inner.shader()
    if (!within) return undefined
    return {
      ...within,
      name: `${within.name} sparse ${columns.size} ${values.size}`,
      reads: { ...within.reads, 'starts: i32': starts, 'columns: u32': columns, 'halves: u32': values },
      code: (row) => `${within.code(row).replace(/\bweight(s?)At\b/g, 'inner$1At')}
${entries(['starts', 'columns', 'halves'], row, [`${columns.size}u`, `${values.size}u`])}
fn weightAt(i: u32) -> f32 {
  let row = i / ${row};
  var v = innerAt(i);
  for (var e = firstOf(row); e < lastOf(row); e++) { if (columnOf(e) == i % ${row}) { v += valueOf(e); } }
  return v;
}
fn weightsAt(i: u32) -> vec4f {
  let row = i / ${row};
  var v = innersAt(i);
  for (var e = firstOf(row); e < lastOf(row); e++) {
    let j = columnOf(e) - i % ${row};
    if (j < 4u) { v += select(vec4f(0.0), vec4f(valueOf(e)), vec4u(0u, 1u, 2u, 3u) == vec4u(j)); }
  }
  return v;
}`,
    }
  },
})
